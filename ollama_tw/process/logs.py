"""The log of the server: one line an event, in the form that readers of Ollama's log know.

``time=2026-01-31T12:00:00.000+01:00 level=INFO source=ollama_tw.server.daemon msg="..." key=value``

The values that an event carries beside its message follow as ``key=value``. A failure's traceback
follows its line, whole; it is written nowhere else.

Source: spec/models-and-cli.md section 8.7; where the log goes, spec/serve.md.
"""

import json
import logging
import re
import string
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TextIO

from twisted.logger import (
    ILogObserver,
    LogBeginner,
    LogEvent,
    Logger,
    LogLevel,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from zope.interface import implementer

from ollama_tw.config.settings import Settings

_ROTATE_BYTES = 10 * 1024 * 1024
_ROTATED_FILES = 5

_LEVEL_NAMES = {
    LogLevel.debug: "DEBUG",
    LogLevel.info: "INFO",
    LogLevel.warn: "WARN",
    LogLevel.error: "ERROR",
    LogLevel.critical: "ERROR",
}
_STDLIB_LEVELS = (
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
)
# What Twisted adds to an event for its older observers, or uses itself.
_LEGACY_KEYS = frozenset({"message", "time", "system", "isError", "format", "failure", "why", "logLevel"})


@implementer(ILogObserver)
class LineObserver:
    """Writes events as lines, each line in one call of ``write``, from whichever thread.

    Without ``debug``, debug events are left out, and so is what Twisted tells of itself at level
    info. Times are in ``timezone``; None is the local one.
    """

    def __init__(
        self, write: Callable[[str], object], debug: bool = False, timezone: tzinfo | None = None
    ) -> None:
        self._write = write
        self._debug = debug
        self._timezone = timezone
        self._lock = threading.Lock()

    def __call__(self, event: LogEvent) -> None:
        level = _level(event)
        if level is LogLevel.debug and not self._debug:
            return
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in self._pairs(event, level))
        text = f"{pairs}\n{_traceback(event)}".encode(errors="backslashreplace").decode()
        with self._lock:
            self._write(text)

    def _pairs(self, event: LogEvent, level: LogLevel) -> Iterator[tuple[str, str]]:
        time = datetime.fromtimestamp(event["log_time"], self._timezone)
        if self._timezone is None:
            time = time.astimezone()
        yield "time", time.isoformat(timespec="milliseconds")
        yield "level", _LEVEL_NAMES[level]
        yield "source", event.get("log_namespace") or "-"
        yield "msg", formatEvent(event)
        used = _names_in(event.get("log_format") or "")
        for key, value in list(event.items()):
            if not key.startswith("log_") and key not in _LEGACY_KEYS and key not in used:
                yield key, str(value)
        failure = event.get("log_failure")
        if failure is not None:
            yield "error", f"{failure.type.__name__}: {failure.getErrorMessage()}"


class _Forwarder(logging.Handler):
    """Passes records of the standard library's logging on to Twisted's."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next((level for number, level in _STDLIB_LEVELS if record.levelno >= number), LogLevel.debug)
        log = Logger(record.name)
        if record.exc_info and record.exc_info[1] is not None:
            kind, value, traceback = record.exc_info
            failure = Failure(value, kind, traceback)  # type: ignore[no-untyped-call]
            log.failure("{text}", failure=failure, level=level, text=record.getMessage())
        else:
            log.emit(level, "{text}", text=record.getMessage())


def start(
    settings: Settings,
    *,
    platform: str = sys.platform,
    stderr: TextIO | None = None,
    beginner: LogBeginner = globalLogBeginner,
) -> None:
    """Send all logging to the log; to be called once in a process.

    The log is standard error, and on macOS the file ``logs/server.log`` in ``settings.home``,
    which is rotated. What was logged before is written first. Raises OSError where that file
    cannot be opened.
    """
    write = _server_log(settings.home) if platform == "darwin" else _stream_writer(stderr or sys.stderr)
    beginner.beginLoggingTo([LineObserver(write, settings.debug)], redirectStandardIO=False)
    forward_stdlib_logging(settings.debug)


def forward_stdlib_logging(debug: bool) -> None:
    """Let records of the loggers below ``ollama_tw`` appear among Twisted's events, and only there.

    Called again, it only changes the level.
    """
    logger = logging.getLogger("ollama_tw")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    if not any(isinstance(handler, _Forwarder) for handler in logger.handlers):
        logger.addHandler(_Forwarder())


def _server_log(home: Path) -> Callable[[str], object]:
    directory = home / "logs"
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    file = LogFile(  # type: ignore[no-untyped-call]
        "server.log", str(directory), rotateLength=_ROTATE_BYTES, maxRotatedFiles=_ROTATED_FILES
    )
    write: Callable[[bytes], object] = file.write
    # The file adds up the lengths of what it is given: of bytes, so that it counts right.
    return lambda text: write(text.encode())


def _stream_writer(stream: TextIO) -> Callable[[str], object]:
    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


def _level(event: LogEvent) -> LogLevel:
    """The event's level; debug for what Twisted, or a library with its older logging, finds
    worth an info."""
    level: LogLevel = event.get("log_level") or LogLevel.info
    namespace = event.get("log_namespace") or ""
    if level is LogLevel.info and (namespace == "log_legacy" or namespace.startswith("twisted.")):
        level = LogLevel.debug
    return level


def _names_in(format: str) -> set[str]:
    """The keys that the message already shows."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(format) if field]
    except ValueError:
        return set()
    return {re.split(r"[.\[(]", field, maxsplit=1)[0] for field in fields}


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if failure is None:
        return ""
    text: str = failure.getTraceback()
    return text if text.endswith("\n") else text + "\n"


def _quoted(value: str) -> str:
    """The value as it is where it is one plain word, else in double quotes on one line."""
    if value and not any(char in ' "=' or not char.isprintable() for char in value):
        return value
    escaped = "".join(
        json.dumps(char)[1:-1] if char in '"\\' or not char.isprintable() else char for char in value
    )
    return f'"{escaped}"'
