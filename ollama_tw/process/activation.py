"""Sockets that systemd opened for this process.

Imports nothing of Twisted, whose endpoints take the variables out of the environment when they are
imported: whoever wants the sockets has to come before them.

Source: sd_listen_fds(3).
"""

import socket
from collections.abc import MutableMapping

# systemd hands over its sockets from this file descriptor on.
_FIRST_INHERITED = 3


class ListenError(OSError):
    """The address cannot be bound; the text is Ollama's, one line for the user."""


def inherited(environ: MutableMapping[str, str], process: int) -> list[socket.socket]:
    """The listening sockets that systemd has opened for this ``process``; none where it has not.

    The variables that tell of them are taken out of ``environ``, for they are not for our children.
    Raises :class:`ListenError` for a descriptor that is no listening stream socket.
    """
    owner, count = environ.get("LISTEN_PID", ""), environ.get("LISTEN_FDS", "")
    if owner != str(process) or not count.isdecimal():
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    found = []
    for descriptor in range(_FIRST_INHERITED, _FIRST_INHERITED + int(count)):
        try:
            sock = socket.socket(fileno=descriptor)
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ListenError(f"listen: inherited file descriptor {descriptor} is no socket") from error
        if sock.type != socket.SOCK_STREAM or not listens:
            raise ListenError(f"listen: inherited file descriptor {descriptor} is no listening stream socket")
        sock.setblocking(False)
        sock.set_inheritable(False)
        found.append(sock)
    return found
