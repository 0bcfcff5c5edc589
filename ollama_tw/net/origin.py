"""Origins of URLs: scheme, host and port, the scope of credentials."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_][a-z0-9_.\-]*|[0-9a-f.]*:[0-9a-f:.]*")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\uffff\\]")


class BadURL(ValueError):
    """The text is not an acceptable HTTP URL; the message contains the reason."""


@dataclass(frozen=True)
class Origin:
    """An origin. ``host`` is in lower case, an IPv6 address without brackets; ``port`` is never implied."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """``host:port`` in the form of a URL, without a default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def origin_of(url: str) -> Origin:
    """Return the origin of an absolute HTTP URL without credentials; raises BadURL for any other text."""
    if _FORBIDDEN.search(url):
        raise BadURL("the URL has invalid characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadURL("the URL has no valid host") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise BadURL("the URL's scheme is neither http nor https")
    host = (parts.hostname or "").lower()
    if not _HOST.fullmatch(host) or "@" in parts.netloc:
        raise BadURL("the URL has no valid host")
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])
