"""The log: one line for each event, in the format of Ollama's log or as a JSON object.

``time=2026-01-31T12:00:00.000+01:00 level=INFO source=ollama_tw.server.daemon msg="..." key=value``

Fields of an event that are not part of its message follow as ``key=value``. The traceback of a failure
follows the line. A JSON object has all fields of an event, and the traceback as a member.

Source: ollama: logutil/logutil.go; docs/operating.md.
"""

import json
import logging
import re
import string
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
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
# Fields that Twisted adds for its legacy observers, or uses itself.
_LEGACY_KEYS = frozenset({"message", "time", "system", "isError", "format", "failure", "why", "logLevel"})


@implementer(ILogObserver)
class LogObserver(ABC):
    """Writes each event with one call of ``write``. Thread-safe.

    Without ``debug``, debug events are omitted, and so are info events of Twisted. Times are in
    ``timezone``; None is the local one.
    """

    def __init__(
        self, write: Callable[[str], object], debug: bool = False, timezone: tzinfo | None = None
    ) -> None:
        self._write = write
        self._debug = debug
        self._timezone = timezone
        self._lock = threading.Lock()

    def __call__(self, event: LogEvent) -> None:
        """Write ``event``."""
        level = _level(event)
        if level is LogLevel.debug and not self._debug:
            return
        text = self._text(event, level).encode(errors="backslashreplace").decode()
        with self._lock:
            self._write(text)

    def _head(self, event: LogEvent, level: LogLevel) -> dict[str, str]:
        """Return the fields that every event has."""
        time = datetime.fromtimestamp(event["log_time"], self._timezone)
        if self._timezone is None:
            time = time.astimezone()
        return {
            "time": time.isoformat(timespec="milliseconds"),
            "level": _LEVEL_NAMES[level],
            "source": event.get("log_namespace") or "-",
            "msg": formatEvent(event),
        }

    @abstractmethod
    def _text(self, event: LogEvent, level: LogLevel) -> str:
        """Return the text of an event, with its newline."""


class LineObserver(LogObserver):
    """Log observer that writes lines in the format of Ollama's log."""

    def _text(self, event: LogEvent, level: LogLevel) -> str:
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in self._pairs(event, level))
        return f"{pairs}\n{_traceback(event)}"

    def _pairs(self, event: LogEvent, level: LogLevel) -> Iterator[tuple[str, str]]:
        yield from self._head(event, level).items()
        used = _names_in(event.get("log_format") or "")
        for key, value in _fields(event):
            if key not in used:
                yield key, str(value)
        if (error := _error(event)) is not None:
            yield "error", error


class JSONObserver(LogObserver):
    """Log observer that writes a JSON object with all fields of an event on each line."""

    def _text(self, event: LogEvent, level: LogLevel) -> str:
        fields: dict[str, object] = dict(self._head(event, level))
        if (error := _error(event)) is not None:
            fields |= {"error": error, "traceback": _traceback(event)}
        for key, value in _fields(event):
            if key and key not in fields:
                fields[key] = value if isinstance(value, str | int | float | None) else str(value)
        return json.dumps(fields) + "\n"


_OBSERVERS: Mapping[str, type[LogObserver]] = {"text": LineObserver, "json": JSONObserver}
"""Observers by the values of ``OLLAMA_LOG_FORMAT``."""


class _Forwarder(logging.Handler):
    """Forwards records of the standard library's logging to Twisted's."""

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
    """Start logging; called once in a process.

    The log is standard error, on macOS the rotated file ``logs/server.log`` in ``settings.home``. Earlier
    events are written first. Raises OSError if the file cannot be opened.
    """
    write = _server_log(settings.home) if platform == "darwin" else _stream_writer(stderr or sys.stderr)
    observer = _OBSERVERS[settings.log_format](write, settings.debug)
    beginner.beginLoggingTo([observer], redirectStandardIO=False)
    forward_stdlib_logging(settings.debug)


def forward_stdlib_logging(debug: bool) -> None:
    """Forward records of the loggers below ``ollama_tw`` to Twisted's logging, and nowhere else.

    Further calls only change the level.
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
    # LogFile counts the length of what is written: in bytes, so that it rotates at the right size.
    return lambda text: write(text.encode())


def _stream_writer(stream: TextIO) -> Callable[[str], object]:
    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


def _level(event: LogEvent) -> LogLevel:
    """Return the level of an event; debug for info events of Twisted or of its legacy logging."""
    level: LogLevel = event.get("log_level") or LogLevel.info
    namespace = event.get("log_namespace") or ""
    if level is LogLevel.info and (namespace == "log_legacy" or namespace.startswith("twisted.")):
        level = LogLevel.debug
    return level


def _fields(event: LogEvent) -> Iterator[tuple[str, object]]:
    """Yield the fields of an event that are neither Twisted's nor those of :meth:`LogObserver._head`."""
    for key, value in list(event.items()):
        if not key.startswith("log_") and key not in _LEGACY_KEYS:
            yield key, value


def _error(event: LogEvent) -> str | None:
    """Return the type and the text of the failure of an event, None without one."""
    failure = event.get("log_failure")
    return None if failure is None else f"{failure.type.__name__}: {failure.getErrorMessage()}"


def _names_in(format: str) -> set[str]:
    """Return the fields that the message contains."""
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
    """Return a plain word unchanged, any other value in double quotes on one line."""
    if value and not any(char in ' "=' or not char.isprintable() for char in value):
        return value
    escaped = "".join(
        json.dumps(char)[1:-1] if char in '"\\' or not char.isprintable() else char for char in value
    )
    return f'"{escaped}"'
