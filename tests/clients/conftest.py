import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.servers import PLAIN_TEMPLATE, TEMPLATE, create, install_scripted_backend, server
from tests.gguf.files import write_gguf


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server with two scripted models: ``talker``, which thinks and calls tools, and ``plain``."""
    home = tmp_path_factory.mktemp("scripted")
    install_scripted_backend(home)
    gguf = write_gguf(home / "tiny.gguf")
    with server(home, OLLAMA_LLM_LIBRARY="scripted", OLLAMA_NUM_PARALLEL="4") as url:
        create(url, "talker", gguf, template=TEMPLATE)
        create(url, "plain", gguf, template=PLAIN_TEMPLATE)
        create(url, "someone/plain:1b", gguf, template=PLAIN_TEMPLATE)
        yield url


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server with a real model: ``smollm2``, and ``smollm2-tools`` with a template for tools."""
    named = os.environ.get("OLLAMA_TW_SMOLLM2")
    if not named:
        pytest.skip("no SmolLM2: set OLLAMA_TW_SMOLLM2 to its GGUF file")
    home = tmp_path_factory.mktemp("smollm2")
    with server(home, OLLAMA_LLM_LIBRARY="cpu", OLLAMA_NUM_PARALLEL="2") as url:
        create(url, "smollm2", Path(named))
        create(url, "smollm2-tools", Path(named), template=TEMPLATE)
        yield url
