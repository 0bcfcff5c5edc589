"""Where a server listens or is reached: the value of ``OLLAMA_HOST`` in all its forms."""

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
    """``host`` is a name or an IP address without brackets, "" for all interfaces; ``path`` is
    the prefix under which a client finds the API, without slashes at its ends."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str, note: Callable[[str], None]) -> "Endpoint":
        """The endpoint that ``text`` names: ``[SCHEME://][HOST][:PORT][/PATH]``.

        ``note`` is told, as the predicate of a sentence, of a port that is replaced by the
        default one. Raises ValueError, with such a predicate too, where nothing can be kept.

        Source: spec/models-and-cli.md section 9, OLLAMA_HOST.
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

        An address that stands for all interfaces is listened on but not connected to: there,
        the URL names this machine's loopback address.
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
    """``127.0.0.1:11434``, ``[::1]:11434``, ``:11434``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``: a loopback address, or the name localhost.

    Other names are not looked up, and count as reachable from elsewhere.
    """
    address = _address(host)
    if address is not None:
        return address.is_loopback
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _split(netloc: str) -> tuple[str, str | None]:
    """The host and the text after the colon, which is None where there is no colon."""
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
    """The IP address, an IPv4 one also where it is written inside IPv6; None for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
