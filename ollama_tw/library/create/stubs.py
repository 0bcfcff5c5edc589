"""Stubs: references to models on other servers, stored as host and model name.

Access to the other server is checked when the stub is used: as in Ollama, stubs can be created while
the cloud is disabled.

Source: ollama: server/create.go, remoteURL.
"""

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ollama_tw.errors import OllamaError

_PORT = 11434
_CLOUD = "ollama.com"
_FORBIDDEN = re.compile(r"[\s\x00-\x20\x7f\\]")


@dataclass(frozen=True)
class StubTarget:
    """Model ``model`` of the server at the URL ``host``."""

    host: str
    model: str


def normal_host(text: str) -> str:
    """Normalise a host, path or URL to a URL with scheme and port and without a trailing slash.

    Raises OllamaError 400 if it is not an HTTP URL, or has credentials, a query or a fragment.
    """
    if text.startswith("/"):
        return f"http://localhost:{_PORT}{_path(text)}"
    url = text if "://" in text else f"http://{text}"
    if _FORBIDDEN.search(url):
        raise _bad_remote()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad_remote() from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _bad_remote()
    if "@" in parts.netloc or "?" in url or "#" in url:
        # The URL is shown in lists and copied between servers, so it must not contain secrets.
        raise _bad_remote()
    if parts.hostname == _CLOUD and port is None:
        return f"https://{_CLOUD}:443{_path(parts.path)}"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{_PORT if port is None else port}{_path(parts.path)}"


def _path(path: str) -> str:
    cleaned = posixpath.normpath(path).replace("//", "/") if path else ""
    return "" if cleaned == "/" else cleaned


def _bad_remote() -> OllamaError:
    return OllamaError(400, "bad remote")
