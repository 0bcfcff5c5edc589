"""Status notifications and watchdog keep-alives for systemd.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from collections.abc import Callable, MutableMapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ollama_tw.errors import reason_of
from ollama_tw.posix import send_datagram

_MICROSECOND = 1e-6

_log = Logger()


class Notifier:
    """Sends notifications to the socket of NOTIFY_SOCKET; without one, does nothing.

    The variables are removed from ``environ``; ``process`` is the own process id.
    """

    def __init__(self, environ: MutableMapping[str, str], process: int) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        owner = environ.pop("WATCHDOG_PID", str(process))
        self.interval = 0.0
        """Watchdog interval in seconds, 0.0 if the watchdog is disabled."""
        if microseconds.isdecimal() and owner == str(process):
            self.interval = int(microseconds) * _MICROSECOND

    @property
    def active(self) -> bool:
        """True if systemd expects notifications."""
        return bool(self._address)

    def notify(self, *lines: str) -> None:
        """Send ``lines`` (``READY=1``, ``STATUS=…``) as one datagram; an error is logged."""
        if not self._address:
            return
        # A leading @ stands for the zero byte of an abstract address.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            send_datagram(address, "\n".join(lines).encode())
        except OSError as error:
            _log.warn("systemd was not notified of {line}: {error}", line=lines[0], error=reason_of(error))


class Watchdog:
    """Sends keep-alives from the reactor while ``stuck`` returns "", and not the name of what hangs."""

    def __init__(self, clock: IReactorTime, notifier: Notifier, stuck: Callable[[], str]) -> None:
        self._clock = clock
        self._notifier = notifier
        self._stuck = stuck
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Send a keep-alive now, and then twice in each watchdog interval."""
        if not self._notifier.interval:
            return
        hanging = self._stuck()
        if hanging:
            _log.error("{what} hangs: no watchdog keep-alive is sent", what=hanging)
        else:
            self._notifier.notify("WATCHDOG=1")
        self._call = self._clock.callLater(self._notifier.interval / 2, self.start)

    def stop(self) -> None:
        """Send no more keep-alives."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
