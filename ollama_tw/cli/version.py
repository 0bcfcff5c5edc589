"""``ollama --version``: prints the version of the running server, and the client's if they differ."""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator

from ollama_tw import __version__
from ollama_tw.config.host import Endpoint, is_loopback
from ollama_tw.config.settings import HOST

_TIMEOUT_SECONDS = 3.0


def version_lines() -> Iterator[str]:
    """Return the lines to print.

    Source: ollama: cmd/cmd.go, versionHandler.
    """
    running = _server_version(HOST.read(os.environ, lambda text: None))
    if running is None:
        yield "Warning: could not connect to a running Ollama instance"
    else:
        yield f"ollama version is {running}"
    if running != __version__:
        yield f"Warning: client version is {__version__}"


def _server_version(endpoint: Endpoint) -> str | None:
    """Return the version of the server at ``endpoint``, None without a valid response."""
    # Servers on this machine are not requested through a proxy.
    local = is_loopback(endpoint.host) or endpoint.host in ("", "0.0.0.0", "::")  # noqa: S104 - not bound
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
    try:
        with opener.open(f"{endpoint.url}/api/version", timeout=_TIMEOUT_SECONDS) as response:
            answer = json.loads(response.read(65536))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    version = answer.get("version") if isinstance(answer, dict) else None
    return version if isinstance(version, str) and version.isprintable() and version else None
