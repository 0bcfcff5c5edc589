"""The whole server: the bytes of WebSocket records, and cancelling in every state of a request."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.helpers import PATIENCE
from tests.helpers.application import Application
from tests.helpers.models import tiny

TIMES = re.compile(rb'"(created_at|\w+_duration)":("[^"]*"|\d+)')
CACHED = re.compile(rb'"prompt_cached_count":\d+,')

UNREACHABLE = "127.0.0.1:1/library/m:latest"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    directory = tmp_path_factory.mktemp("server")
    application = Application(directory / "home", OLLAMA_NUM_PARALLEL="1")
    application.create("m", tiny(directory, "tiny"))
    yield application
    application.close()


@pytest.fixture(autouse=True)
def answer(server: Application) -> None:
    server.release()
    server.set_reply("a", " <b>", " \u2028", "ß")


def open_at(server: Application, path: str) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}{path}", max_size=None)


def receive(connection: ClientConnection) -> bytes:
    return connection.recv(PATIENCE, decode=False)


def constant(line: bytes) -> bytes:
    """Remove the values that differ each time: times, and the tokens found in the cache."""
    return CACHED.sub(b"", TIMES.sub(rb'"\1":0', line))


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/generate", {"model": "m", "prompt": "hi"}),
        ("/api/generate", {"model": "m", "prompt": "hi", "stream": False}),
        ("/api/generate", {"model": "m", "prompt": "hi", "raw": True, "options": {"num_predict": 2}}),
        ("/api/generate", {"model": "m"}),
        ("/api/chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
        ("/api/chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False}),
        ("/api/chat", {"model": "m", "messages": [], "keep_alive": 0}),
        ("/api/embed", {"model": "m", "input": ["one", "two"]}),
        ("/api/create", {"model": "copy", "from": "m"}),
        ("/api/create", {"model": "copy", "from": "m", "stream": False}),
        pytest.param("/api/pull", {"model": UNREACHABLE, "insecure": True}, marks=pytest.mark.slow),
        ("/api/push", {"model": UNREACHABLE, "insecure": True}),
    ],
)
@pytest.mark.parametrize(
    ("id_", "written"),
    [
        (None, ""),
        ('a \u2028 <ß>"\\', r'"a \u2028 \u003cß\u003e\"\\"'),
        ("", '""'),
        (7, "7"),
        (0, "0"),
        (-1, "-1"),
        (1 << 70, "1180591620717411303424"),
    ],
)
def test_records_are_the_lines_of_http(
    server: Application, path: str, fields: dict[str, Any], id_: str | int | None, written: str
) -> None:
    reply = server.post(path, fields)
    assert reply.status == 200
    lines = [constant(line) for line in reply.body.splitlines()]
    assert lines
    with open_at(server, path) as connection:
        connection.send(json.dumps(fields if id_ is None else {**fields, "id": id_}))
        records = [constant(receive(connection)) for _ in lines]
    assert records == (
        lines if not written else [line[:-1] + f',"id":{written}}}'.encode() for line in lines]
    )


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/generate", {"model": "none"}),
        ("/api/generate", {"model": 5}),
        ("/api/chat", {"model": "m", "messages": "no list"}),
        ("/api/chat", {"model": "m", "messages": [], "options": {"num_predict": "x"}}),
        ("/api/embed", {"model": "m", "input": 5}),
        ("/api/create", {"model": "", "from": "m"}),
        ("/api/pull", {"model": "../x"}),
        ("/api/push", {}),
        pytest.param(
            *("/api/pull", {"model": UNREACHABLE, "insecure": True, "stream": False}), marks=pytest.mark.slow
        ),
    ],
)
def test_errors_are_records_with_the_status_of_http(
    server: Application, path: str, fields: dict[str, Any]
) -> None:
    reply = server.post(path, fields)
    assert reply.status >= 400
    error = reply.json["error"]
    with open_at(server, path) as connection:
        connection.send(json.dumps({**fields, "id": "x"}))
        assert json.loads(receive(connection)) == {"id": "x", "status": reply.status, "error": error}
        connection.send(json.dumps(fields))
        assert json.loads(receive(connection)) == {"status": reply.status, "error": error}


GENERATED = {"model": "m", "response": "", "done": True, "done_reason": "cancelled"}
CHATTED = {
    "model": "m",
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "cancelled",
}


def cancel(connection: ClientConnection, id_: int) -> dict[str, Any]:
    """Return the last record."""
    connection.send(json.dumps({"id": id_, "cancel": True}))
    record: dict[str, Any] = json.loads(receive(connection))
    record.pop("created_at", None)
    return record


@pytest.mark.parametrize(
    ("path", "fields", "record"),
    [
        ("/api/generate", {"model": "m", "prompt": "hi"}, GENERATED),
        ("/api/chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, CHATTED),
    ],
)
def test_cancel_while_running_and_while_queued(
    server: Application, path: str, fields: dict[str, Any], record: dict[str, Any]
) -> None:
    server.generate()
    server.hold()
    runner = server.runner
    before = len(runner.jobs)
    with open_at(server, path) as connection:
        connection.send(json.dumps({**fields, "id": 1}))
        runner.wait_for(lambda: runner.running == 1)
        # There is one slot, so this request is queued.
        connection.send(json.dumps({**fields, "id": 2}))
        assert cancel(connection, 2) == {**record, "id": 2}
        assert cancel(connection, 1) == {**record, "id": 1}
        runner.wait_for(lambda: runner.running == 0)
        assert len(runner.jobs) == before + 1
        # Cancelling ended and unknown requests has no effect, and the slot is free.
        connection.send(json.dumps({"id": 1, "cancel": True}))
        connection.send(json.dumps({"id": "never", "cancel": True}))
        server.release()
        connection.send(json.dumps({**fields, "id": 1, "stream": False}))
        assert json.loads(receive(connection))["done_reason"] == "stop"


def test_cancel_while_the_model_loads(server: Application) -> None:
    server.generate(prompt="", keep_alive=0)
    server.backend.gate.clear()
    server.backend.began.clear()
    try:
        with open_at(server, "/api/generate") as connection:
            connection.send(json.dumps({"model": "m", "prompt": "hi", "id": 1}))
            assert server.backend.began.wait(PATIENCE)
            assert cancel(connection, 1) == {**GENERATED, "id": 1}
    finally:
        server.backend.gate.set()
    assert server.generate().status == 200


def test_cancel_of_an_embedding_that_waits_for_its_model(server: Application) -> None:
    server.generate(prompt="", keep_alive=0)
    server.backend.gate.clear()
    server.backend.began.clear()
    try:
        with open_at(server, "/api/embed") as connection:
            connection.send(json.dumps({"model": "m", "input": "x", "id": 1}))
            assert server.backend.began.wait(PATIENCE)
            assert cancel(connection, 1) == {"id": 1, "done": True, "done_reason": "cancelled"}
    finally:
        server.backend.gate.set()


def test_only_streaming_endpoints_accept_upgrades(server: Application) -> None:
    for path in ("/api/tags", "/api/show", "/v1/chat/completions", "/api/embeddings"):
        with pytest.raises(InvalidStatus):
            open_at(server, path)
