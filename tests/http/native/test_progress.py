"""Places in the queue, and the records about progress that clients may ask for."""

import json
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.helpers import PATIENCE
from tests.helpers.application import Application
from tests.helpers.models import CHATML, tiny


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    """Start a server with one slot, whose model is loaded."""
    application = Application(tmp_path / "home")
    application.create("m", tiny(tmp_path, "m", chat_template=CHATML))
    application.set_reply("Hello")
    application.generate(prompt="")
    yield application
    application.backend.gate.set()
    application.close()


class Clients:
    """Requests whose replies are read line by line."""

    def __init__(self, app: Application) -> None:
        self._app = app
        # A connection that is not referenced is closed, which cancels its request.
        self.connections: list[Any] = []

    def ask(self, path: str = "/api/chat", headers: Mapping[str, str] | None = None, **fields: Any) -> Any:
        connection = self._app.connect()
        self.connections.append(connection)
        body = {"model": "m", "prompt": "hi", "messages": [{"role": "user", "content": "hi"}], **fields}
        connection.request("POST", path, json.dumps(body), dict(headers or {}))
        return connection

    def wait_for(self, count: int) -> None:
        """Wait until ``count`` requests run or wait."""
        while len(self._app.get("/api/requests").json["requests"]) != count:
            pass


@pytest.fixture
def clients(app: Application) -> Clients:
    return Clients(app)


def record(response: HTTPResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.readline())
    return found


def rest(response: HTTPResponse) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.read().splitlines()]


def is_progress(record: dict[str, Any]) -> bool:
    return not {"queue", "load", "prefill"}.isdisjoint(record)


def test_a_request_that_waited_has_its_place_in_a_header(app: Application, clients: Clients) -> None:
    app.hold()
    connections = []
    for path in ("/api/chat", "/api/chat", "/v1/chat/completions", "/api/embed"):
        connections.append(clients.ask(path, input="hi"))
        clients.wait_for(len(connections))
    app.release()
    responses = [connection.getresponse() for connection in connections]
    assert [response.headers["X-Queue-Position"] for response in responses] == [None, "1", "2", "3"]
    assert [response.status for response in responses] == [200] * 4


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_the_place_in_the_queue_is_reported_as_it_changes(
    app: Application, clients: Clients, path: str
) -> None:
    app.hold()
    clients.ask()
    clients.wait_for(1)
    second = clients.ask()
    clients.wait_for(2)
    response = clients.ask(path, progress=True).getresponse()
    assert response.headers["X-Queue-Position"] == "2"
    assert record(response) == {"queue": {"position": 2, "waiting": 2}}
    second.close()
    assert record(response) == {"queue": {"position": 1, "waiting": 1}}
    app.release()
    records = rest(response)
    assert records[-1]["done"] is True
    assert all("model" in one for one in records if not is_progress(one))


def test_a_load_is_reported(app: Application, clients: Clients) -> None:
    app.generate(prompt="", keep_alive=0)
    app.backend.gate.clear()
    response = clients.ask(progress=True).getresponse()
    first = record(response)
    # The server may have looked before the load got that far.
    assert (record(response) if first == {"load": {"percent": 0}} else first) == {"load": {"percent": 50}}
    app.backend.gate.set()
    assert rest(response)[-1]["done"] is True


def test_the_evaluation_of_the_prompt_is_reported(app: Application, clients: Clients) -> None:
    app.hold()
    app.runner.prefill_chunk = 10
    response = clients.ask("/api/generate", progress=True, prompt="x" * 80, raw=True).getresponse()
    assert record(response) == {"prefill": {"percent": 12, "done": 10, "total": 80}}
    listed = app.get("/api/requests").json["requests"]
    assert [(one["phase"], one["prompt_done"], one["prompt_tokens"]) for one in listed] == [
        ("prefill", 10, 80)
    ]
    app.release()
    assert rest(response)[-1]["prompt_eval_count"] == 80


def test_without_the_field_there_are_no_such_records(app: Application, clients: Clients) -> None:
    app.hold()
    clients.ask()
    clients.wait_for(1)
    silent, whole = clients.ask(), clients.ask(progress=True, stream=False)
    clients.wait_for(3)
    app.release()
    for connection in (silent, whole):
        records = rest(connection.getresponse())
        assert records[-1]["done"] is True
        assert not any(map(is_progress, records))


def receive(connection: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(connection.recv(PATIENCE))
    return found


def test_websocket_has_the_same_records(app: Application, clients: Clients) -> None:
    app.hold()
    clients.ask()
    clients.wait_for(1)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    with connect(f"ws://127.0.0.1:{app.port}/api/chat") as connection:
        connection.send(json.dumps({"id": 7, "progress": True, **body}))
        assert receive(connection) == {"queue": {"position": 1, "waiting": 1}, "id": 7}
        app.release()
        records = [receive(connection)]
        while not records[-1].get("done"):
            records.append(receive(connection))
    assert {one["id"] for one in records} == {7}


@pytest.mark.slow
def test_a_request_that_asks_for_a_low_priority_lets_others_pass(app: Application, clients: Clients) -> None:
    app.hold()
    clients.ask()
    clients.wait_for(1)
    low = clients.ask(headers={"X-Priority": "low"}, progress=True).getresponse()
    assert record(low) == {"queue": {"position": 1, "waiting": 1}}
    clients.ask()
    assert record(low) == {"queue": {"position": 2, "waiting": 2}}
    app.release()
    assert rest(low)[-1]["done"] is True


def test_an_unknown_priority_is_refused_in_the_format_of_the_api(app: Application, clients: Clients) -> None:
    for path in ("/api/chat", "/v1/chat/completions"):
        response = clients.ask(path, {"X-Priority": "urgent"}).getresponse()
        body = json.loads(response.read())["error"]
        text = body if isinstance(body, str) else body["message"]
        assert (response.status, text) == (400, "X-Priority must be low, normal or high")
    with connect(
        f"ws://127.0.0.1:{app.port}/api/chat", additional_headers={"X-Priority": "urgent"}
    ) as connection:
        connection.send(json.dumps({"model": "m", "messages": []}))
        assert receive(connection) == {"status": 400, "error": "X-Priority must be low, normal or high"}
