"""One end of the connection between the server and a child process, the same on both sides."""

import socket
import sys
import threading
from collections.abc import Iterator, Sequence

from ollama_tw.posix import send_with_descriptors
from ollama_tw.runner.encoding import MAX_DESCRIPTORS, Splitter, StateReader

if sys.platform == "win32":
    raise ImportError("child processes of models require Unix sockets")

# The C library allocates more than this anew for each call.
_READ_BYTES = 1 << 16


class Connection:
    """One end of a pair of Unix sockets. Sending is possible on any thread, receiving on one.

    ``states`` reads the states of the messages received.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = threading.Lock()
        self._splitter = Splitter()
        self.states = StateReader()

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send an encoded message, and descriptors beside it; raises OSError. Blocking."""
        with self._sending:
            send_with_descriptors(self._socket, data, descriptors)

    def try_send(self, data: bytes) -> bool:
        """Send a short message without waiting; return whether it was sent."""
        if not self._sending.acquire(blocking=False):
            return False
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT) == len(data)
        except OSError:
            return False
        finally:
            self._sending.release()

    def receive(self) -> Iterator[bytes] | None:
        """Wait for data; return the encoded messages that are complete, None at the end of the connection.

        Raises OSError; the iterator raises :class:`~ollama_tw.runner.encoding.InvalidMessage`.
        """
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _READ_BYTES, MAX_DESCRIPTORS)
        except ConnectionError:
            return None
        self.states.add(descriptors)
        return self._splitter.feed(data) if data else None

    def close(self) -> None:
        """Close the socket, and the descriptors of messages that did not arrive."""
        self.states.close()
        with self._sending:
            self._socket.close()
