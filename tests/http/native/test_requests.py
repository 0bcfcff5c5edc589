"""Requests in progress: their list, their cancellation, and what the log has of them."""

import json
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from ollama_tw.testing.fake import FakeBackend
from tests.helpers import PATIENCE
from tests.helpers.application import Application
from tests.helpers.logs import captured
from tests.helpers.models import CHATML, tiny

SECRET = "the-secret-of-the-prompt"
CANCELLED = "the request was cancelled by DELETE /api/requests"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    """Start a server with one slot, whose replies pause after 30 tokens."""

    def reply(prompt: str) -> Iterator[str]:
        for number in range(1000):
            if number == 30:
                application.hold()
            yield f" {number}"

    application = Application(tmp_path / "home", backend=FakeBackend(reply))
    application.create("m", tiny(tmp_path, "m", chat_template=CHATML))
    application.create("e", tiny(tmp_path, "e", metadata={"llama.pooling_type": 1}))
    application.generate(prompt="")
    yield application
    application.close()


class Streams:
    """Requests whose replies are not read until the test does."""

    def __init__(self, app: Application) -> None:
        self._app = app
        # A connection that is not referenced is closed, which cancels its request.
        self._connections: list[HTTPConnection] = []

    def begin(self, path: str, request_id: str, **fields: Any) -> Callable[[], HTTPResponse]:
        """Send a request and return a function that waits for its reply."""
        connection = self._app.connect()
        self._connections.append(connection)
        body = {"model": "m", "prompt": SECRET, "messages": [{"role": "user", "content": SECRET}], **fields}
        connection.request("POST", path, json.dumps(body), {"X-Request-Id": request_id})
        return connection.getresponse


Listed = dict[str, dict[str, Any]]
"""Requests by their ids."""


def listed(app: Application) -> Listed:
    return {one["id"]: one for one in app.get("/api/requests").json["requests"]}


def wait(app: Application, condition: Callable[[Listed], bool]) -> Listed:
    """Ask for the list until ``condition`` is true of it, and return it."""
    end = time.monotonic() + PATIENCE
    while not condition(found := listed(app)):
        assert time.monotonic() < end, found
    return found


def cancel(app: Application, request_id: str) -> int:
    return app.request("DELETE", f"/api/requests/{request_id}").status


def test_running_and_queued_requests_are_listed(app: Application) -> None:
    assert listed(app) == {}
    app.hold()
    streams = Streams(app)
    streams.begin("/api/generate", "first")
    wait(app, lambda found: "first" in found and found["first"]["phase"] == "prefill")
    streams.begin("/v1/chat/completions", "second")
    wait(app, lambda found: "second" in found)
    streams.begin("/api/chat", "third")
    found = wait(app, lambda found: "third" in found)
    assert [one.get("position") for one in found.values()] == [None, 1, 2]
    assert [one["phase"] for one in found.values()] == ["prefill", "queued", "queued"]
    assert [one["endpoint"] for one in found.values()] == [
        "/api/generate",
        "/v1/chat/completions",
        "/api/chat",
    ]
    assert {(one["model"], one["client"]) for one in found.values()} == {("m:latest", "127.0.0.1")}
    app.release()
    found = wait(app, lambda found: found["first"]["tokens"] > 20)
    assert found["first"]["phase"] == "decode"
    for name in ("third", "second", "first"):
        assert cancel(app, name) == 200


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/v1/chat/completions", "/v1/messages"])
def test_a_stream_is_cancelled_with_an_error_at_its_end(app: Application, path: str) -> None:
    streams = Streams(app)
    response = streams.begin(path, "x", stream=True, max_tokens=4000)()
    assert response.status == 200
    response.readline()
    assert cancel(app, "x") == 200
    assert CANCELLED in response.read().decode().splitlines()[-1 if path.startswith("/api") else -2]
    wait(app, lambda found: not found)
    assert cancel(app, "x") == 404


def test_a_request_without_a_stream_is_cancelled_with_499(app: Application) -> None:
    streams = Streams(app)
    waiting = streams.begin("/api/chat", "x", stream=False)
    wait(app, lambda found: "x" in found)
    assert cancel(app, "x") == 200
    response = waiting()
    assert (response.status, json.loads(response.read())) == (499, {"error": CANCELLED})


def test_a_queued_request_is_cancelled_at_once(app: Application) -> None:
    app.hold()
    streams = Streams(app)
    streams.begin("/api/chat", "runs")
    wait(app, lambda found: "runs" in found)
    waiting = streams.begin("/api/chat", "waits")
    wait(app, lambda found: "waits" in found)
    assert cancel(app, "waits") == 200
    assert waiting().status == 499
    assert list(listed(app)) == ["runs"]
    assert cancel(app, "runs") == 200


def test_a_load_is_cancelled(app: Application) -> None:
    app.generate(prompt="", keep_alive=0)
    app.backend.gate.clear()
    streams = Streams(app)
    waiting = streams.begin("/api/chat", "x")
    wait(app, lambda found: found.get("x", {}).get("phase") == "loading")
    assert cancel(app, "x") == 200
    assert waiting().status == 499
    app.backend.gate.set()


def test_a_request_over_websocket_is_cancelled(app: Application) -> None:
    with connect(f"ws://127.0.0.1:{app.port}/api/chat", additional_headers={"X-Request-Id": "w"}) as session:
        session.send(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}))
        session.recv(PATIENCE)
        assert list(listed(app)) == ["w.1"]
        assert cancel(app, "w.1") == 200
        while "error" not in (record := json.loads(session.recv(PATIENCE))):
            pass
        assert record == {"error": CANCELLED}


def test_pages_of_other_sites_neither_see_nor_cancel_requests(app: Application) -> None:
    page = {"Origin": "https://page.example"}
    for method, path in (("GET", "/api/requests"), ("DELETE", "/api/requests/x")):
        reply = app.request(method, path, headers=page)
        assert (reply.status, "may not see or cancel requests" in reply.json["error"]) == (403, True)


def test_the_log_has_the_model_and_the_tokens_and_not_the_prompt(app: Application) -> None:
    with captured() as events:
        streamed = Streams(app).begin("/api/chat", "x", options={"num_predict": 7})()
        streamed.read()
        Streams(app).begin("/api/embed", "y", model="e", input=[SECRET, "b"])().read()
        assert cancel(app, "x") == 404
    logged = {event["request_id"]: event for event in events if "request_id" in event}
    assert (logged["x"]["model"], logged["x"]["tokens"]) == ("m:latest", 7)
    assert logged["x"]["prompt_tokens"] > 0
    assert (logged["y"]["model"], logged["y"]["prompt_tokens"]) == ("e:latest", len(SECRET) + 1)
    assert "model" not in next(event for key, event in logged.items() if key not in ("x", "y"))
    assert SECRET not in repr([{**event} for event in events])
