"""Streams of other servers: back pressure, disconnects, limits, WebSocket."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.cloud.conftest import add_stub
from tests.cloud.remote import CHUNK_END, Asked, Remote, chunk, line, streaming_head
from tests.helpers import PATIENCE
from tests.helpers.application import Application

NAMES = ("m:cloud", "stub")
TIME = "2026-01-01T00:00:00Z"


def record(text: str, *, done: bool = False) -> bytes:
    return line(model="big:7b", created_at=TIME, response=text, done=done)


def begin(app: Application, name: str, path: str = "/api/generate") -> socket.socket:
    """Connect and request a stream."""
    body = json.dumps({"model": name, "prompt": "hi"}).encode()
    wire = socket.create_connection(("127.0.0.1", app.port), PATIENCE)
    wire.sendall(
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body))
    )
    wire.sendall(body)
    return wire


def read_until(wire: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        data = wire.recv(65536)
        assert data, received
        received += data
    return received


class Held:
    """A response of the remote that continues when the test sets ``go_on``."""

    def __init__(self, remote: Remote) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        remote.answer = self._answer

    def _answer(self, asked: Asked, wire: socket.socket) -> None:
        wire.sendall(streaming_head() + chunk(record("one")))
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        wire.sendall(chunk(record("two", done=True)) + CHUNK_END)


@pytest.mark.parametrize("name", NAMES)
def test_records_are_relayed_one_by_one(app: Application, scripted: Remote, name: str) -> None:
    held = Held(scripted)
    with begin(app, name) as wire:
        first = read_until(wire, b'"one"')
        assert b'"two"' not in first
        held.go_on.set()
        assert read_until(wire, b"\r\n0\r\n\r\n").count(b'"two"') == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("begun", [True, False])
def test_a_disconnect_closes_the_remote_connection(
    app: Application, scripted: Remote, name: str, begun: bool
) -> None:
    waiting = threading.Event()

    def answer(asked: Asked, wire: socket.socket) -> None:
        if begun:
            wire.sendall(streaming_head() + chunk(record("one")))
        waiting.set()
        scripted.wait_until_closed(wire)

    scripted.answer = answer
    with begin(app, name) as wire:
        assert waiting.wait(PATIENCE)
        if begun:
            read_until(wire, b'"one"')
    assert scripted.gone.wait(PATIENCE)


class Flood:
    """Sends ``count`` records of 64 KiB; ``halted`` is set when it is paused."""

    def __init__(self, remote: Remote, count: int) -> None:
        self.count = count
        self.sent = 0
        self.halted = threading.Event()
        """Set when the socket has not accepted data for a while, or all is sent."""
        self.finished = threading.Event()
        self._remote = remote
        remote.answer = self._answer

    def _answer(self, asked: Asked, wire: socket.socket) -> None:
        wire.sendall(streaming_head())
        padding = "x" * 65536
        for number in range(self.count):
            self._send(wire, chunk(record(f"{number} {padding}")))
            self.sent += 1
        self._send(wire, chunk(record("end", done=True)) + CHUNK_END)
        self.finished.set()
        self.halted.set()

    def _send(self, wire: socket.socket, data: bytes) -> None:
        wire.settimeout(0.5)
        view = memoryview(data)
        while view:
            try:
                view = view[wire.send(view) :]
            except TimeoutError:
                self.halted.set()
                wire.settimeout(PATIENCE)
            except OSError:
                self._remote.gone.set()
                raise


# More than the buffers of four sockets.
_FLOOD_RECORDS = 1200


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_slow_reader_pauses_the_other_server(app: Application, scripted: Remote, name: str) -> None:
    flood = Flood(scripted, _FLOOD_RECORDS)
    with begin(app, name) as wire:
        assert flood.halted.wait(PATIENCE)
        assert not flood.finished.is_set()
        # Other requests are served meanwhile.
        assert app.get("/api/version").status == 200
        with wire.makefile("rb") as lines:
            numbers = []
            for text in lines:
                if text.startswith(b"{"):
                    response = json.loads(text)["response"]
                    if response == "end":
                        break
                    numbers.append(int(response.partition(" ")[0]))
        assert numbers == list(range(_FLOOD_RECORDS))
        assert flood.finished.wait(PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_disconnects_without_reading(app: Application, scripted: Remote, name: str) -> None:
    flood = Flood(scripted, _FLOOD_RECORDS)
    with begin(app, name):
        assert flood.halted.wait(PATIENCE)
    assert scripted.gone.wait(PATIENCE)
    assert not flood.finished.is_set()


def test_too_many_concurrent_requests(app: Application, scripted: Remote) -> None:
    with patch("ollama_tw.cloud.client.MAX_CONCURRENT", 1):
        held = Held(scripted)
        with begin(app, "m:cloud") as wire:
            read_until(wire, b'"one"')
            for name in NAMES:
                reply = app.generate(model=name)
                text = "server busy, please try again.  maximum pending requests exceeded"
                assert (reply.status, reply.json) == (503, {"error": text})
            held.go_on.set()
            read_until(wire, b"\r\n0\r\n\r\n")
        for _ in range(3):
            # Each of these ends in another way, and must be counted as ended.
            scripted.reply_with({"error": "no"}, 500)
            assert app.generate(model="m:cloud").status == 500
            assert app.generate(model="stub").status == 500
            scripted.reply_with(b"", 302)
            assert app.generate(model="m:cloud").status == 502
            scripted.answer = lambda asked, wire: None
            assert app.generate(model="stub").status == 502


def test_a_stub_of_itself_is_bounded(app: Application) -> None:
    add_stub(app, "loop", f"http://localhost:{app.port}", "loop")
    with patch("ollama_tw.cloud.client.MAX_CONCURRENT", 20):
        reply = app.generate(model="loop")
    assert reply.status == 503


def test_a_drain_completes_a_stream(tmp_path: Path, scripted: Remote) -> None:
    app = Application(tmp_path / "home", OLLAMA_CLOUD_BASE_URL=scripted.url)
    held = Held(scripted)
    with begin(app, "m:cloud") as wire:
        read_until(wire, b'"one"')
        closing = threading.Thread(target=app.close)
        closing.start()
        held.go_on.set()
        assert b'"two"' in read_until(wire, b"\r\n0\r\n\r\n")
        closing.join(PATIENCE)
        assert not closing.is_alive()


# ---------------------------------------------------------------------------------------- WebSocket


@pytest.fixture
def chat(app: Application) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{app.port}/api/generate", open_timeout=PATIENCE) as connection:
        yield connection


def send(connection: ClientConnection, **body: Any) -> None:
    connection.send(json.dumps(body))


def receive(connection: ClientConnection) -> Any:
    return json.loads(connection.recv(timeout=PATIENCE))


@pytest.mark.parametrize("name", NAMES)
def test_frames(scripted: Remote, chat: ClientConnection, name: str) -> None:
    scripted.stream(record("one"), record("two", done=True)[:20], record("two", done=True)[20:])
    send(chat, id=7, model=name, prompt="hi")
    first, second = receive(chat), receive(chat)
    assert (first["response"], first["id"], first["done"]) == ("one", 7, False)
    assert (second["response"], second["id"], second["done"]) == ("two", 7, True)
    assert first["model"] == ("big:7b" if name == "m:cloud" else "stub")
    [asked] = scripted.asked
    assert (asked.target.partition("?")[0], asked.json["prompt"]) == ("/api/generate", "hi")


@pytest.mark.parametrize("name", NAMES)
def test_frames_with_one_record(scripted: Remote, chat: ClientConnection, name: str) -> None:
    scripted.reply_with(b'{\n  "model": "big:7b", "created_at": "x",\n  "response": "one", "done": true\n}\n')
    send(chat, id="a", model=name, prompt="hi", stream=False)
    found = receive(chat)
    assert (found["response"], found["id"]) == ("one", "a")


@pytest.mark.parametrize("name", NAMES)
def test_errors_in_frames(scripted: Remote, chat: ClientConnection, name: str) -> None:
    scripted.reply_with(b'{\n"error": "no such luck"\n}', 404)
    send(chat, id=1, model=name, prompt="hi")
    assert receive(chat) == {"id": 1, "status": 404, "error": "no such luck"}
    scripted.reply_with(b"<html>\n<br>", 500)
    send(chat, model=name, prompt="hi")
    assert receive(chat) == {"status": 500, "error": "the remote server answered with status 500"}
    scripted.stream(record("one"), b"garbage\n")
    send(chat, id=2, model=name, prompt="hi")
    assert receive(chat)["response"] == "one"
    assert receive(chat)["error"] == "the remote server sent an invalid record"


def test_without_an_account(scripted: Remote, chat: ClientConnection) -> None:
    scripted.reply_with({"error": "who"}, 401)
    send(chat, id=1, model="m:cloud", prompt="hi")
    found = receive(chat)
    assert (found["id"], found["status"], found["error"]) == (1, 401, "unauthorized")
    assert found["signin_url"].startswith("https://ollama.com/connect?")


@pytest.mark.parametrize("name", NAMES)
def test_cancelling_a_request_closes_the_remote_connection(
    scripted: Remote, chat: ClientConnection, name: str
) -> None:
    def answer(asked: Asked, wire: socket.socket) -> None:
        wire.sendall(streaming_head() + chunk(record("one")))
        scripted.wait_until_closed(wire)

    scripted.answer = answer
    send(chat, id=1, model=name, prompt="hi")
    assert receive(chat)["response"] == "one"
    send(chat, id=1, cancel=True)
    last = receive(chat)
    assert (last["done"], last["done_reason"]) == (True, "cancelled")
    assert scripted.gone.wait(PATIENCE)


def test_embeddings_in_frames(app: Application, scripted: Remote) -> None:
    scripted.reply_with({"model": "big:7b", "embeddings": [[1, 0.5]]})
    with connect(f"ws://127.0.0.1:{app.port}/api/embed", open_timeout=PATIENCE) as connection:
        send(connection, id=1, model="m:cloud", input="x")
        assert receive(connection) == {"model": "big:7b", "embeddings": [[1, 0.5]], "id": 1}
        send(connection, id=2, model="stub", input="x")
        found = receive(connection)
    assert (found["model"], found["embeddings"], found["id"]) == ("stub", [[1.0, 0.5]], 2)
