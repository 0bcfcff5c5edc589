"""Stubs: models that another server runs, of which only its address and name are stored.

Whether the server may be asked is decided when it is, not here: a stub can be made with the cloud
turned off, as in Ollama.

Source: ``spec/models-and-cli.md`` section 4.5.
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
class Stub:
    """The model ``model`` as the server at the URL ``host`` calls it."""

    host: str
    model: str


def normal_host(text: str) -> str:
    """The URL that ``text``, a host, a path or a URL, stands for: with scheme and port, without a
    slash at its end. OllamaError 400 where it is none that could be asked.
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
        # It is shown in lists and copied between servers: no place for secrets.
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
