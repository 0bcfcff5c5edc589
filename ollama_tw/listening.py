"""The server's socket: bound before anything slow, so that a taken port is told at once."""

import errno
import os
import socket

from ollama_tw.endpoint import join_host_port

_BACKLOG = 1024


class ListenError(OSError):
    """The address cannot be bound; the text is Ollama's, one line for the user."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, from which nothing is accepted yet; "" is every interface, IPv6 too.

    Raises :class:`ListenError`.
    """
    shown = join_host_port(host, port)
    try:
        family, address = _resolve(host, port)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # One socket for both protocols where every interface is meant, else IPv6 alone.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
            sock.bind(address)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    except socket.gaierror as error:
        raise ListenError(f"listen tcp: lookup {host}: no such host") from error
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ListenError(f"listen tcp {shown}: bind: {reason}") from error
    return sock


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    if not host:
        return (socket.AF_INET6, ("::", port)) if _has_ipv6() else (socket.AF_INET, ("0.0.0.0", port))
    family, _kind, _protocol, _name, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, (str(address[0]), int(address[1]))


def _has_ipv6() -> bool:
    """Whether the system has IPv6, not only the interpreter."""
    if not socket.has_dualstack_ipv6():
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return False
        raise
    return True
