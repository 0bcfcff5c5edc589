"""Packages that the server imports only when a request needs them."""

import subprocess
import sys

import pytest

LATE = {
    "PIL",
    "autobahn",
    "jinja2",
    "llama_cpp",
    "numpy",
    "ollama_tw.convert.model",
    "ollama_tw.dialects.openai",
    "ollama_tw.grammar",
    "ollama_tw.inference",
    "ollama_tw.output",
}


@pytest.mark.slow
def test_starting_imports_no_package_that_the_first_request_does_not_need() -> None:
    code = "import sys; import ollama_tw.server.daemon, ollama_tw.llama.discovery; print(*sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "ollama_tw.server.daemon" in output.split()
    assert LATE & set(output.split()) == set()
