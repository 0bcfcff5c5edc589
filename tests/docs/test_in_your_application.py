"""The application in docs/in-your-application.md starts and stops together with its server."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.helpers import ROOT


def fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(url) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"


def test_importing_installs_no_reactor() -> None:
    code = "import sys; from ollama_tw import make_service; print([m for m in sys.modules if 'twisted' in m])"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "[]\n"


def test_the_example_serves_both_and_stops(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "docs/examples/embedded.py", "0", "0"],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        server = application = None
        for line in process.stderr:
            if found := re.search(r"Listening on (127\S+)", line):
                server = found[1]
            if found := re.search(r"(?<!Api)Site starting on (\d+)", line):
                application = found[1]
            if server and application:
                break
        else:
            pytest.fail("it did not start")
        assert fetch(f"http://{server}/api/version") == '{"version":"0.34.2"}'
        assert fetch(f"http://127.0.0.1:{application}/") == "Try /haiku/MODEL?about=rain"
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped" in rest
