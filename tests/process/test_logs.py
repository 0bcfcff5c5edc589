"""Format and destination of the log."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogBeginner, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure

from ollama_tw.config.settings import Settings
from ollama_tw.process import logs
from ollama_tw.process.logs import JSONObserver, LineObserver

PARIS = timezone(timedelta(hours=1))


def lines_of(log_level: LogLevel, format: str, debug: bool = False, **event: Any) -> str:
    written: list[str] = []
    observer = LineObserver(written.append, debug=debug, timezone=PARIS)
    observer(
        {
            "log_time": 1769857200.0421,
            "log_level": log_level,
            "log_namespace": "ollama_tw.server.daemon",
            "log_format": format,
            **event,
        }
    )
    return "".join(written)


HEAD = "time=2026-01-31T12:00:00.042+01:00 level=INFO source=ollama_tw.server.daemon "


def test_an_event_is_a_line_of_pairs() -> None:
    line = lines_of(LogLevel.info, "Listening on {address}", address="127.0.0.1:11434", version="0.6.0")
    assert line == HEAD + 'msg="Listening on 127.0.0.1:11434" version=0.6.0\n'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        (7, "7"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", "back\\slash"),
        ("a\nlevel=ERROR", '"a\\nlevel=ERROR"'),
        ("\x1b[31m", '"\\u001b[31m"'),
        ("\x9b", '"\\u009b"'),
        ("grün", "grün"),
        ("\udcff", '"\\udcff"'),
    ],
)
def test_values_are_quoted_if_necessary(value: object, written: str) -> None:
    assert lines_of(LogLevel.info, "x", key=value) == HEAD + f"msg=x key={written}\n"


def json_of(format: str, **event: Any) -> tuple[dict[str, Any], str]:
    """Return the object of an event, and the line."""
    written: list[str] = []
    JSONObserver(written.append, timezone=PARIS)(
        {
            "log_time": 1769857200.0421,
            "log_level": LogLevel.info,
            "log_namespace": "ollama_tw.server.daemon",
            "log_format": format,
            **event,
        }
    )
    (line,) = written
    return json.loads(line), line


def test_an_event_is_a_json_object_with_all_its_fields() -> None:
    found, line = json_of("{status} {path}", status=200, path="/api/chat", seconds=0.25, none=None)
    assert found == {
        "time": "2026-01-31T12:00:00.042+01:00",
        "level": "INFO",
        "source": "ollama_tw.server.daemon",
        "msg": "200 /api/chat",
        "status": 200,
        "path": "/api/chat",
        "seconds": 0.25,
        "none": None,
    }
    assert line.count("\n") == 1


@pytest.mark.parametrize("value", ["a\nlevel=ERROR", "\udcff", '"', "\u2028", "\x1b[31m", "grün"])
def test_a_json_object_is_one_line_of_ascii(value: str) -> None:
    found, line = json_of("{key}", key=value)
    assert (found["msg"], found["key"]) == (value, value)
    assert line.isascii()
    assert len(line.splitlines()) == 1


def test_a_field_does_not_replace_those_of_every_event() -> None:
    found, _ = json_of("x", level="none", msg="none", time="none", source="none")
    assert (found["level"], found["msg"], found["source"]) == ("INFO", "x", "ollama_tw.server.daemon")


def test_values_without_a_json_form_are_texts() -> None:
    assert json_of("x", path=Path("/a"), sizes=[1, 2])[0]["path"] == "/a"


def test_a_failure_is_a_member_with_its_traceback() -> None:
    try:
        raise KeyError("gone")
    except KeyError:
        found, line = json_of("it failed", log_failure=Failure())
    assert found["error"] == "KeyError: 'gone'"
    assert "test_logs.py" in found["traceback"]
    assert line.count("\n") == 1


def test_fields_of_the_message_are_not_repeated() -> None:
    event: dict[str, Any] = {"path": Path("/a/b"), "sizes": [1, 2]}
    assert lines_of(LogLevel.info, "{path.name} {sizes[0]} {path!r:>3}", **event).count("sizes") == 0


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (LogLevel.info, "INFO"),
        (LogLevel.warn, "WARN"),
        (LogLevel.error, "ERROR"),
        (LogLevel.critical, "ERROR"),
    ],
)
def test_levels(level: LogLevel, name: str) -> None:
    assert f" level={name} " in lines_of(level, "x")


def test_debug_events_require_debug() -> None:
    assert lines_of(LogLevel.debug, "x") == ""
    assert " level=DEBUG " in lines_of(LogLevel.debug, "x", debug=True)


@pytest.mark.parametrize("namespace", ["twisted.web.server.Site", "log_legacy"])
def test_info_events_of_twisted_are_debug(namespace: str) -> None:
    told: dict[str, Any] = {"log_namespace": namespace}
    assert lines_of(LogLevel.info, "Starting factory", **told) == ""
    assert " level=DEBUG " in lines_of(LogLevel.info, "Starting factory", debug=True, **told)
    assert " level=ERROR " in lines_of(LogLevel.critical, "Unhandled error", **told)


def test_the_traceback_of_a_failure_follows_its_line() -> None:
    def innermost() -> None:
        raise KeyError("lost")

    try:
        innermost()
    except KeyError:
        failure = Failure()
    first, *rest = lines_of(LogLevel.critical, "Unhandled", log_failure=failure).splitlines()
    assert first.endswith("msg=Unhandled error=\"KeyError: 'lost'\"")
    assert rest[0] == "Traceback (most recent call last):"
    assert any("innermost" in line for line in rest)
    assert rest[-1].endswith("KeyError: 'lost'")


def test_a_broken_event_does_not_raise() -> None:
    assert "source=ollama_tw.server.daemon" in lines_of(LogLevel.info, "{missing} {unclosed")


@pytest.fixture
def publisher() -> LogPublisher:
    return LogPublisher()


@pytest.fixture
def beginner(publisher: LogPublisher) -> LogBeginner:
    """Return a LogBeginner with its own publisher, so that the logging of the test run is not changed."""

    class Module:
        stdout = sys.stdout
        stderr = sys.stderr
        showwarning = staticmethod(warnings.showwarning)

    return LogBeginner(publisher, io.StringIO(), Module(), Module())


@pytest.fixture(autouse=True)
def _restore_stdlib_logging() -> Iterator[None]:
    logger = logging.getLogger("ollama_tw")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.setLevel(before[0])
    logger.propagate = before[1]
    logger.handlers[:] = before[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({"HOME": str(tmp_path)}, lambda text: None)


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_the_log_is_standard_error(
    platform: str, settings: Settings, beginner: LogBeginner, publisher: LogPublisher, tmp_path: Path
) -> None:
    log = Logger("ollama_tw.early", observer=publisher)
    log.info("before the start")
    stderr = io.StringIO()

    logs.start(settings, platform=platform, stderr=stderr, beginner=beginner)
    log.debug("hidden")
    log.info("after the start")

    first, second = stderr.getvalue().splitlines()
    assert first.endswith('level=INFO source=ollama_tw.early msg="before the start"')
    assert second.endswith('level=INFO source=ollama_tw.early msg="after the start"')
    assert list(tmp_path.iterdir()) == []


def test_debug_is_a_setting(settings: Settings, beginner: LogBeginner, publisher: LogPublisher) -> None:
    stderr = io.StringIO()
    logs.start(replace(settings, debug=True), platform="linux", stderr=stderr, beginner=beginner)
    Logger("ollama_tw.x", observer=publisher).debug("seen")
    assert stderr.getvalue().endswith("level=DEBUG source=ollama_tw.x msg=seen\n")


def test_the_format_is_a_setting(settings: Settings, beginner: LogBeginner, publisher: LogPublisher) -> None:
    stderr = io.StringIO()
    logs.start(replace(settings, log_format="json"), platform="linux", stderr=stderr, beginner=beginner)
    Logger("ollama_tw.x", observer=publisher).info("seen")
    assert json.loads(stderr.getvalue().splitlines()[-1])["msg"] == "seen"


def test_on_macos_the_log_is_a_file(
    settings: Settings, beginner: LogBeginner, publisher: LogPublisher, tmp_path: Path
) -> None:
    stderr = io.StringIO()
    logs.start(settings, platform="darwin", stderr=stderr, beginner=beginner)
    Logger("ollama_tw.x", observer=publisher).info("für den Apfel")
    text = (tmp_path / ".ollama" / "logs" / "server.log").read_text(encoding="utf-8")
    assert text.endswith('level=INFO source=ollama_tw.x msg="für den Apfel"\n')
    assert stderr.getvalue() == ""


def test_the_file_on_macos_is_rotated(
    settings: Settings,
    beginner: LogBeginner,
    publisher: LogPublisher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "_ROTATE_BYTES", 10)
    logs.start(settings, platform="darwin", beginner=beginner)
    log = Logger("ollama_tw.x", observer=publisher)
    for number in range(9):
        log.info("line {number}", number=number)
    directory = tmp_path / ".ollama" / "logs"
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["server.log", *(f"server.log.{number}" for number in range(1, 6))]
    assert 'msg="line 8"' in (directory / "server.log").read_text()


@pytest.fixture
def forwarded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    written: list[str] = []
    observer = LineObserver(written.append)

    def isolated(namespace: str) -> Logger:
        return Logger(namespace, observer=observer)

    monkeypatch.setattr(logs, "Logger", isolated)
    return written


def test_forwards_records_of_the_standard_library(
    forwarded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    logs.forward_stdlib_logging(debug=False)
    logs.forward_stdlib_logging(debug=False)
    log = logging.getLogger("ollama_tw.llama.runner")
    log.debug("hidden")
    thread = threading.Thread(target=log.warning, args=("%d {slots}", 4))
    thread.start()
    thread.join()
    assert len(forwarded) == 1
    assert forwarded[0].endswith('level=WARN source=ollama_tw.llama.runner msg="4 {slots}"\n')
    assert caplog.records == []  # not logged by the root logger as well


def test_forwards_exceptions_with_their_traceback(forwarded: list[str]) -> None:
    logs.forward_stdlib_logging(debug=False)
    try:
        raise RuntimeError("no memory")
    except RuntimeError:
        logging.getLogger("ollama_tw.llama").exception("load failed")
    (text,) = forwarded
    assert 'level=ERROR source=ollama_tw.llama msg="load failed" error="RuntimeError: no memory"\n' in text
    assert "Traceback (most recent call last):" in text
    assert "test_logs.py" in text
