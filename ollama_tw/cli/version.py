"""``ollama --version``: the version of the running server, and ours where it is another one."""

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
    """The lines to print.

    Source: spec/models-and-cli.md section 8.2.
    """
    running = _server_version(HOST.read(os.environ, lambda text: None))
    if running is None:
        yield "Warning: could not connect to a running Ollama instance"
    else:
        yield f"ollama version is {running}"
    if running != __version__:
        yield f"Warning: client version is {__version__}"


def _server_version(endpoint: Endpoint) -> str | None:
    """What the server at ``endpoint`` says of itself; None where none answers as one should."""
    # A proxy reaches other machines; it is not asked for what runs on this one.
    local = is_loopback(endpoint.host) or endpoint.host in ("", "0.0.0.0", "::")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
    try:
        with opener.open(f"{endpoint.url}/api/version", timeout=_TIMEOUT_SECONDS) as response:
            answer = json.loads(response.read(65536))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    version = answer.get("version") if isinstance(answer, dict) else None
    return version if isinstance(version, str) and version.isprintable() and version else None
