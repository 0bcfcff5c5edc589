"""Socket activation: listening sockets inherited from systemd.

Does not import Twisted, whose endpoints remove the variables from the environment at import: call
:func:`inherited_sockets` before.

Source: sd_listen_fds(3).
"""

import socket
from collections.abc import MutableMapping

# The first file descriptor that systemd passes.
_FIRST_INHERITED = 3


class ListenError(OSError):
    """An address cannot be bound; the text is a line for the user, in Ollama's form."""


def inherited_sockets(environ: MutableMapping[str, str], process: int) -> list[socket.socket]:
    """Return the listening sockets that systemd has passed to ``process``, the own process id.

    The variables are removed from ``environ``, so that child processes do not inherit them. Raises
    :class:`ListenError` for a descriptor that is not a listening stream socket.
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
            raise ListenError(f"listen: inherited file descriptor {descriptor} is not a socket") from error
        if sock.type != socket.SOCK_STREAM or not listens:
            raise ListenError(
                f"listen: inherited file descriptor {descriptor} is not a listening stream socket"
            )
        sock.setblocking(False)
        sock.set_inheritable(False)
        found.append(sock)
    return found
