"""What systemd is told of the server's life: datagrams to the socket that NOTIFY_SOCKET names.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import socket
import sys
from collections.abc import Callable, MutableMapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_MICROSECOND = 1e-6

_log = Logger()


class Notifier:
    """Tells systemd, where it wants to know; else does nothing."""

    def __init__(self, environ: MutableMapping[str, str], process: int) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        owner = environ.pop("WATCHDOG_PID", str(process))
        self.interval = 0.0
        """Seconds after which systemd wants to hear from us again, 0.0 for never."""
        if microseconds.isdecimal() and owner == str(process):
            self.interval = int(microseconds) * _MICROSECOND

    @property
    def active(self) -> bool:
        """Whether systemd wants to know."""
        return bool(self._address)

    def tell(self, *lines: str) -> None:
        """Send ``lines`` (``READY=1``, ``STATUS=…``) in one message."""
        if not self._address or sys.platform == "win32":
            return
        # A leading @ stands for the zero byte of an abstract address.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            _log.warn("systemd could not be told {lines}: {error}", lines=lines[0], error=str(error))


class Watchdog:
    """Feeds systemd's watchdog from the reactor, as long as ``stuck`` names nothing that hangs."""

    def __init__(self, clock: IReactorTime, notifier: Notifier, stuck: Callable[[], str]) -> None:
        self._clock = clock
        self._notifier = notifier
        self._stuck = stuck
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Feed it now, and twice as often as it wants."""
        if not self._notifier.interval:
            return
        what = self._stuck()
        if what:
            _log.error("{what} hangs: the watchdog is not fed", what=what)
        else:
            self._notifier.tell("WATCHDOG=1")
        self._call = self._clock.callLater(self._notifier.interval / 2, self.start)

    def stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
