"""HTTP client for engines: responses, event streams, errors and cancellation."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ollama_tw.interfaces import RunnerError
from ollama_tw.support.http import EngineError, HTTPEngine
from ollama_tw.support.runs import Runs

TIMEOUT = 30


class Script(ThreadingHTTPServer):
    """An engine whose responses depend on the path; ``left`` is set when a client disconnects."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, Any, str | None]] = []
        self.reached = threading.Event()
        self.left = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Script

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
        self.server.asked.append((self.command, self.path, body, self.headers.get("Authorization")))
        self.server.reached.set()
        match self.path.rpartition("/")[2]:
            case "refuse":
                self.answer(400, b'{"error": {"code": 400, "message": "no such model"}}')
            case "plain":
                self.answer(404, b'{"error": "nothing here"}')
            case "drains":
                self.answer(503, b"draining\n")
            case "junk":
                self.answer(200, b"<html>")
            case "nested":
                self.answer(200, b"[" * 100_000)
            case "refuses-nested":
                self.answer(400, b"[" * 100_000)
            case "silent":
                self.wait()
            case "events":
                self.answer(200, b'data: {"n": 1}\n\n: a comment\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n')
            case "endless":
                self.answer(200, b'data: {"n": 1}\n\n', length=1 << 20)
                self.wait()
            case "fails":
                self.answer(200, b'data: {"n": 1}\n\ndata: {"error": {"message": "out of memory"}}\n\n')
            case _:
                self.answer(200, b'{"fine": true}')

    do_POST = do_GET

    def answer(self, status: int, body: bytes, length: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def wait(self) -> None:
        """Wait until the client has disconnected."""
        if not self.connection.recv(1):
            self.server.left.set()


@pytest.fixture
def server() -> Iterator[Script]:
    with Script() as script:
        thread = threading.Thread(target=script.serve_forever, args=(0.01,))
        thread.start()
        yield script
        script.shutdown()
        thread.join()


def cancel_when_reached(server: Script, cancel: threading.Event) -> None:
    """Set ``cancel`` when the server has received a request."""

    def run() -> None:
        server.reached.wait(TIMEOUT)
        cancel.set()

    threading.Thread(target=run).start()


def connect(server: Script, runs: Runs | None = None, **options: Any) -> HTTPEngine:
    return HTTPEngine(f"http://127.0.0.1:{server.server_port}/base/", runs or Runs(1), **options)


def test_requests_have_the_headers(server: Script) -> None:
    engine = connect(server, headers={"Authorization": "Bearer key"})
    assert engine.ask("/x") == {"fine": True}
    assert engine.ask("/y", {"text": "grün"}) == {"fine": True}
    assert server.asked == [
        ("GET", "/base/x", None, "Bearer key"),
        ("POST", "/base/y", {"text": "grün"}, "Bearer key"),
    ]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/refuse", "no such model"),
        ("/plain", "nothing here"),
        ("/junk", "the response of the engine at 127.0.0.1:PORT is not JSON"),
        ("/nested", "the response of the engine at 127.0.0.1:PORT is not JSON"),
        ("/refuses-nested", f"status 400: {'[' * 200}"),
    ],
)
def test_errors_have_the_text_of_the_engine(server: Script, path: str, text: str) -> None:
    with pytest.raises(RunnerError) as caught:
        connect(server).ask(path)
    assert str(caught.value) == text.replace("PORT", str(server.server_port))


def test_a_refusal_has_its_status_and_a_lost_connection_none(server: Script) -> None:
    engine = connect(server)
    assert [engine.status(path) for path in ("/x", "/refuse", "/plain")] == [200, 400, 404]
    with pytest.raises(EngineError, match="status 503: draining") as caught:
        engine.ask("/drains")
    assert caught.value.status == 503
    with pytest.raises(EngineError, match="connection refused") as caught:
        HTTPEngine("http://127.0.0.1:9", Runs(1)).status("/x")
    assert caught.value.status is None


def test_an_unreachable_or_slow_engine(server: Script) -> None:
    with pytest.raises(RunnerError) as caught:
        HTTPEngine("http://127.0.0.1:9", Runs(1)).ask("/x")
    assert str(caught.value) == "the engine at 127.0.0.1:9 does not respond: connection refused"
    with pytest.raises(RunnerError, match="does not respond: timed out"):
        connect(server, timeout=0.05).ask("/silent")


def test_events(server: Script) -> None:
    assert list(connect(server).events("/events", {}, threading.Event())) == [{"n": 1}, {"n": 2}]


def test_an_error_within_the_events(server: Script) -> None:
    events = connect(server).events("/fails", {}, threading.Event())
    assert next(events) == {"n": 1}
    with pytest.raises(RunnerError, match="out of memory"):
        next(events)


@pytest.mark.parametrize("end", ["cancel", "close", "leave"])
def test_the_connection_is_closed_during_events(server: Script, end: str) -> None:
    runs, cancel = Runs(1), threading.Event()
    events: Any = connect(server, runs).events("/endless", {}, cancel)
    assert next(events) == {"n": 1}
    {"cancel": cancel.set, "close": runs.close, "leave": events.close}[end]()
    # No event is read meanwhile.
    assert server.left.wait(TIMEOUT)
    assert list(events) == []


def test_the_connection_is_closed_before_the_first_event(server: Script) -> None:
    cancel = threading.Event()
    with closing(connect(server).events("/silent", {}, cancel)) as events:
        cancel_when_reached(server, cancel)
        assert list(events) == []
    assert server.left.wait(TIMEOUT)


def test_a_request_that_is_cancelled(server: Script) -> None:
    cancel = threading.Event()
    cancel_when_reached(server, cancel)
    with pytest.raises(RunnerError):
        connect(server, timeout=60).ask("/silent", {}, cancel)
    assert server.left.wait(TIMEOUT)
