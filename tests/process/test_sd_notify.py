"""Notifications to systemd."""

# mypy: allow-untyped-calls

import socket

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from ollama_tw.process.sd_notify import Notifier, Watchdog


class Manager:
    """The socket on which systemd receives notifications."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def received(self) -> list[bytes]:
        found = []
        try:
            while True:
                found.append(self._socket.recv(4096))
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


class NotifierTests(TestCase):
    def setUp(self) -> None:
        # An abstract address has no limit of its path.
        self.manager = Manager("\0ollama-tw-" + self.id())
        self.addCleanup(self.manager.close)
        self.address = "@ollama-tw-" + self.id()

    def notifier(self, **environ: str) -> Notifier:
        return Notifier({"NOTIFY_SOCKET": self.address, **environ}, 42)

    def test_lines_are_sent_in_one_datagram(self) -> None:
        self.notifier().notify("READY=1", "STATUS=Listening")
        self.assertEqual(self.manager.received(), [b"READY=1\nSTATUS=Listening"])

    def test_without_systemd_nothing_happens(self) -> None:
        Notifier({}, 42).notify("READY=1")
        Notifier({"NOTIFY_SOCKET": "/no/such/socket"}, 42).notify("READY=1")
        self.assertEqual(self.manager.received(), [])

    def test_removes_the_variables(self) -> None:
        environ = {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "42", "A": "b"}
        self.assertEqual(Notifier(environ, 42).interval, 1.0)
        self.assertEqual(environ, {"A": "b"})

    def test_ignores_the_watchdog_of_another_process(self) -> None:
        self.assertEqual(self.notifier(WATCHDOG_USEC="1000000", WATCHDOG_PID="7").interval, 0.0)

    def test_two_keep_alives_in_each_interval(self) -> None:
        clock = Clock()
        watchdog = Watchdog(clock, self.notifier(WATCHDOG_USEC="10000000"), lambda: "")
        watchdog.start()
        self.assertEqual(self.manager.received(), [b"WATCHDOG=1"])
        clock.advance(4.9)
        self.assertEqual(self.manager.received(), [])
        clock.advance(0.1)
        self.assertEqual(self.manager.received(), [b"WATCHDOG=1"])
        watchdog.stop()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_no_keep_alive_while_something_hangs(self) -> None:
        clock = Clock()
        hanging = ["a model"]
        watchdog = Watchdog(clock, self.notifier(WATCHDOG_USEC="10000000"), lambda: "".join(hanging))
        watchdog.start()
        clock.advance(5)
        self.assertEqual(self.manager.received(), [])
        hanging.clear()
        clock.advance(5)
        self.assertEqual(self.manager.received(), [b"WATCHDOG=1"])

    def test_no_timer_without_a_watchdog(self) -> None:
        clock = Clock()
        Watchdog(clock, self.notifier(), lambda: "").start()
        self.assertEqual(clock.getDelayedCalls(), [])
