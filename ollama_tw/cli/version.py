"""``ollama --version``: prints the version of the running server, and the client's if they differ.

A version is that of the Ollama whose behaviour a program has, with its own in brackets.
"""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

from ollama_tw import OLLAMA_VERSION, __version__
from ollama_tw.cli.local import is_local
from ollama_tw.config.host import Endpoint
from ollama_tw.config.settings import HOST

_TIMEOUT_SECONDS = 3.0
# On this machine a connection is accepted or refused at once: what takes longer is a busy server.
_LOCAL_TIMEOUT_SECONDS = 30.0
_PRODUCT = "ollama_tw"


def version_lines() -> Iterator[str]:
    """Return the lines to print.

    Source: ollama: cmd/cmd.go, versionHandler.
    """
    running = _server_version(HOST.read(os.environ, lambda text: None))
    if running is None:
        yield "Warning: could not connect to a running Ollama instance"
    else:
        yield f"ollama version is {running}"
    if running is None or running.own != __version__:
        yield f"Warning: client version is {_Version(OLLAMA_VERSION, __version__)}"


@dataclass(frozen=True)
class _Version:
    """The version of Ollama that a program is compatible with, and its own, "" for Ollama itself."""

    ollama: str
    own: str

    def __str__(self) -> str:
        return f"{self.ollama} ({_PRODUCT} {self.own})" if self.own else self.ollama


def _server_version(endpoint: Endpoint) -> _Version | None:
    """Return the version of the server at ``endpoint``, None without a valid response."""
    # Servers on this machine are not requested through a proxy.
    direct = [urllib.request.ProxyHandler({})] if is_local(endpoint) else []
    opener = urllib.request.build_opener(*direct)
    try:
        timeout = _LOCAL_TIMEOUT_SECONDS if is_local(endpoint) else _TIMEOUT_SECONDS
        with opener.open(f"{endpoint.url}/api/version", timeout=timeout) as response:
            answer = json.loads(response.read(65536))
            product, _, own = response.headers.get("Server", "").partition("/")
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return None
    version = answer.get("version") if isinstance(answer, dict) else None
    if not isinstance(version, str) or not version.isprintable() or not version:
        return None
    return _Version(version, own if product == _PRODUCT and own.isprintable() else "")
