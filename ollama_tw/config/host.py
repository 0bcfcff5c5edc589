"""Parses ``OLLAMA_HOST``: the address on which a server listens and a client reaches it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 11434

_SCHEME_PORTS = {"http": 80, "https": 443}
_BRACKETED = re.compile(r"\[(?P<host>[^\[\]]*)\](?::(?P<port>.*))?")
_PLAIN = re.compile(r"(?P<host>[^:]*)(?::(?P<port>[^:]*))?")
_HOST_NAME = re.compile(r"[\w.-]*")
_CLOUD = "ollama.com"


@dataclass(frozen=True)
class Endpoint:
    """Address of a server.

    ``host`` is a name or an IP address without brackets, "" for all interfaces. ``path`` is the prefix of
    the API's paths for a client, without slashes at its ends.
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str, note: Callable[[str], None]) -> "Endpoint":
        """Parse ``[SCHEME://][HOST][:PORT][/PATH]``.

        An invalid port is replaced by the default one, and ``note`` is called with a remark, the predicate
        of a sentence. Raises ValueError, with such a predicate, for any other error.

        Source: ollama: envconfig/config.go, Host.
        """
        text = text.strip()
        if text == _CLOUD:
            return cls("https", _CLOUD, _SCHEME_PORTS["https"])
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "http", text
        elif scheme not in _SCHEME_PORTS:
            raise ValueError("has a scheme that is neither http nor https")
        default_port = _SCHEME_PORTS[scheme] if separator else DEFAULT_PORT
        netloc, _, path = rest.partition("/")
        host, port_text = _split(netloc)
        port = default_port
        if port_text is not None:
            if re.fullmatch(r"[0-9]{1,5}", port_text, re.ASCII) and int(port_text) <= 65535:
                port = int(port_text)
            else:
                note(f"has a port that is not a number from 0 to 65535; using port {default_port}")
        return cls(scheme, host, port, path.strip("/"))

    @property
    def url(self) -> str:
        """The base URL for a client, without a slash at its end.

        The address of all interfaces, to which no client can connect, is replaced by a loopback address.
        """
        host = self.host
        address = _address(host)
        if not host or address == IPv4Address(0):
            host = DEFAULT_HOST
        elif address == IPv6Address(0):
            host = "::1"
        path = f"/{self.path}" if self.path else ""
        return f"{self.scheme}://{join_host_port(host, self.port)}{path}"


def join_host_port(host: str, port: int) -> str:
    """Return host and port as one text: ``127.0.0.1:11434``, ``[::1]:11434``, ``:11434``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is a loopback address or the name localhost.

    Other names are not resolved, and are not loopback.
    """
    address = _address(host)
    if address is not None:
        return address.is_loopback
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _split(netloc: str) -> tuple[str, str | None]:
    """Return the host, and the text after the colon, None if there is no colon."""
    if not netloc:
        return DEFAULT_HOST, None
    bare = _address(netloc)
    if bare is not None:
        return str(bare), None
    bracketed = _BRACKETED.fullmatch(netloc)
    if bracketed:
        inner = _address(bracketed["host"])
        if inner is None:
            raise ValueError("has no IP address between its brackets")
        return str(inner), bracketed["port"]
    plain = _PLAIN.fullmatch(netloc)
    if plain is None or not _HOST_NAME.fullmatch(plain["host"]):
        raise ValueError("is not a host and a port")
    return plain["host"], plain["port"]


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address, IPv4 also for an IPv4-mapped one; None for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
