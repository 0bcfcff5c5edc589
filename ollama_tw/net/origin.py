"""Scheme, host and port of a URL: what credentials belong to."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_][a-z0-9_.\-]*|[0-9a-f:.]*:[0-9a-f:.]*")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\uffff\\]")


class BadURL(ValueError):
    """The text is no HTTP URL that may be asked; the message says why."""


@dataclass(frozen=True)
class Origin:
    """The host is in lower case, an IPv6 address without brackets; the port is always there."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """``host:port`` as a URL has it, a default port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def origin_of(url: str) -> Origin:
    """The origin of an absolute HTTP URL; BadURL for anything else, and for one with a user."""
    if _FORBIDDEN.search(url):
        raise BadURL("the URL has characters that no URL has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadURL("the URL names no host") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise BadURL("the URL is not one of HTTP")
    host = (parts.hostname or "").lower()
    if not _HOST.fullmatch(host) or "@" in parts.netloc:
        raise BadURL("the URL names no host")
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])
