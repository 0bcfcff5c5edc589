"""Streams of other servers, between a server that talks and a client that may not listen."""

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
    """A connection on which a stream was asked for."""
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
    """A remote's answer that goes on at the test's word."""

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
def test_records_come_one_by_one(app: Application, scripted: Remote, name: str) -> None:
    held = Held(scripted)
    with begin(app, name) as wire:
        first = read_until(wire, b'"one"')
        assert b'"two"' not in first
        held.go_on.set()
        assert read_until(wire, b"\r\n0\r\n\r\n").count(b'"two"') == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("begun", [True, False])
def test_the_other_server_is_told_when_the_client_goes(
    app: Application, scripted: Remote, name: str, begun: bool
) -> None:
    waiting = threading.Event()

    def answer(asked: Asked, wire: socket.socket) -> None:
        if begun:
            wire.sendall(streaming_head() + chunk(record("one")))
        waiting.set()
        scripted.waits_until_gone(wire)

    scripted.answer = answer
    with begin(app, name) as wire:
        assert waiting.wait(PATIENCE)
        if begun:
            read_until(wire, b'"one"')
    assert scripted.gone.wait(PATIENCE)


class Flood:
    """Sends ``count`` records of 64 KiB, and tells when it is held back."""

    def __init__(self, remote: Remote, count: int) -> None:
        self.count = count
        self.sent = 0
        self.halted = threading.Event()
        """Set when nothing more can be sent for a while, or all is."""
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


# More than the buffers of four sockets hold together.
_MANY = 1200


@pytest.mark.parametrize("name", NAMES)
def test_a_slow_reader_holds_the_other_server_back(app: Application, scripted: Remote, name: str) -> None:
    flood = Flood(scripted, _MANY)
    with begin(app, name) as wire:
        assert flood.halted.wait(PATIENCE)
        assert not flood.finished.is_set()
        # The server is there for others meanwhile.
        assert app.get("/api/version").status == 200
        with wire.makefile("rb") as lines:
            numbers = []
            for text in lines:
                if text.startswith(b"{"):
                    response = json.loads(text)["response"]
                    if response == "end":
                        break
                    numbers.append(int(response.partition(" ")[0]))
        assert numbers == list(range(_MANY))
        assert flood.finished.wait(PATIENCE)


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_that_never_reads_and_goes(app: Application, scripted: Remote, name: str) -> None:
    flood = Flood(scripted, _MANY)
    with begin(app, name):
        assert flood.halted.wait(PATIENCE)
    assert scripted.gone.wait(PATIENCE)
    assert not flood.finished.is_set()


def test_too_many_at_once(app: Application, scripted: Remote) -> None:
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
            # Each of these ends another way, and makes room all the same.
            scripted.says({"error": "no"}, 500)
            assert app.generate(model="m:cloud").status == 500
            assert app.generate(model="stub").status == 500
            scripted.says(b"", 302)
            assert app.generate(model="m:cloud").status == 502
            scripted.answer = lambda asked, wire: None
            assert app.generate(model="stub").status == 502


def test_a_stub_of_itself_comes_to_an_end(app: Application) -> None:
    add_stub(app, "loop", f"http://localhost:{app.port}", "loop")
    with patch("ollama_tw.cloud.client.MAX_CONCURRENT", 20):
        reply = app.generate(model="loop")
    assert reply.status == 503


def test_a_drain_lets_a_stream_come_to_its_end(tmp_path: Path, scripted: Remote) -> None:
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


def say(connection: ClientConnection, **body: Any) -> None:
    connection.send(json.dumps(body))


def hear(connection: ClientConnection) -> Any:
    return json.loads(connection.recv(timeout=PATIENCE))


@pytest.mark.parametrize("name", NAMES)
def test_frames(scripted: Remote, chat: ClientConnection, name: str) -> None:
    scripted.streams(record("one"), record("two", done=True)[:20], record("two", done=True)[20:])
    say(chat, id=7, model=name, prompt="hi")
    first, second = hear(chat), hear(chat)
    assert (first["response"], first["id"], first["done"]) == ("one", 7, False)
    assert (second["response"], second["id"], second["done"]) == ("two", 7, True)
    assert first["model"] == ("big:7b" if name == "m:cloud" else "stub")
    [asked] = scripted.asked
    assert (asked.target.partition("?")[0], asked.json["prompt"]) == ("/api/generate", "hi")


@pytest.mark.parametrize("name", NAMES)
def test_frames_with_one_record(scripted: Remote, chat: ClientConnection, name: str) -> None:
    scripted.says(b'{\n  "model": "big:7b", "created_at": "x",\n  "response": "one", "done": true\n}\n')
    say(chat, id="a", model=name, prompt="hi", stream=False)
    found = hear(chat)
    assert (found["response"], found["id"]) == ("one", "a")


@pytest.mark.parametrize("name", NAMES)
def test_errors_in_frames(scripted: Remote, chat: ClientConnection, name: str) -> None:
    scripted.says(b'{\n"error": "no such luck"\n}', 404)
    say(chat, id=1, model=name, prompt="hi")
    assert hear(chat) == {"id": 1, "status": 404, "error": "no such luck"}
    scripted.says(b"<html>\n<br>", 500)
    say(chat, model=name, prompt="hi")
    assert hear(chat) == {"status": 500, "error": "the remote server answered with status 500"}
    scripted.streams(record("one"), b"garbage\n")
    say(chat, id=2, model=name, prompt="hi")
    assert hear(chat)["response"] == "one"
    assert hear(chat)["error"] == "the remote server sent an invalid record"


def test_nobody_is_signed_in(scripted: Remote, chat: ClientConnection) -> None:
    scripted.says({"error": "who"}, 401)
    say(chat, id=1, model="m:cloud", prompt="hi")
    found = hear(chat)
    assert (found["id"], found["status"], found["error"]) == (1, 401, "unauthorized")
    assert found["signin_url"].startswith("https://ollama.com/connect?")


@pytest.mark.parametrize("name", NAMES)
def test_cancelling_a_frame_tells_the_other_server(
    scripted: Remote, chat: ClientConnection, name: str
) -> None:
    def answer(asked: Asked, wire: socket.socket) -> None:
        wire.sendall(streaming_head() + chunk(record("one")))
        scripted.waits_until_gone(wire)

    scripted.answer = answer
    say(chat, id=1, model=name, prompt="hi")
    assert hear(chat)["response"] == "one"
    say(chat, id=1, cancel=True)
    last = hear(chat)
    assert (last["done"], last["done_reason"]) == (True, "cancelled")
    assert scripted.gone.wait(PATIENCE)


def test_embeddings_in_frames(app: Application, scripted: Remote) -> None:
    scripted.says({"model": "big:7b", "embeddings": [[1, 0.5]]})
    with connect(f"ws://127.0.0.1:{app.port}/api/embed", open_timeout=PATIENCE) as connection:
        say(connection, id=1, model="m:cloud", input="x")
        assert hear(connection) == {"model": "big:7b", "embeddings": [[1, 0.5]], "id": 1}
        say(connection, id=2, model="stub", input="x")
        found = hear(connection)
    assert (found["model"], found["embeddings"], found["id"]) == ("stub", [[1.0, 0.5]], 2)
