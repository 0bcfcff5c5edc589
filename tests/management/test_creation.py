"""Creations over HTTP: their records, and other requests at the same time."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from ollama_tw.client.aio import connect
from tests.helpers import PATIENCE
from tests.helpers.application import Application
from tests.helpers.gguf_files import write_gguf


class Standing:
    """A quantizer that pauses in its work until it is released or cancelled."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.ended = threading.Semaphore(0)

    def __call__(self, source: Path, target: Path, file_type: str) -> Generator[str, None, None]:
        try:
            yield "token_embd.weight"
            target.write_bytes(b"half")
            yield "output_norm.weight"
            while not self.go.wait(0.01):
                yield ""
            write_gguf(target, file_type=7)
        finally:
            self.ended.release()

    def wait_for_end(self) -> None:
        assert self.ended.acquire(timeout=PATIENCE)


def wait_until_tidy(app: Application) -> None:
    """Wait until no temporary file is left: it is removed after the quantizer has ended."""
    deadline = time.monotonic() + PATIENCE
    while left := [name for name in blobs(app) if len(name) != 71]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


@pytest.fixture
def quantizer() -> Iterator[Standing]:
    quantizer = Standing()
    with patch("ollama_tw.server.components.quantize", quantizer):
        yield quantizer
    quantizer.go.set()


@pytest.fixture
def app(quantizer: Standing, tmp_path: Path) -> Iterator[Application]:
    application = Application(tmp_path / "home")
    yield application
    quantizer.go.set()
    application.close()


class Creation:
    """A streamed creation of the model ``q``, read line by line."""

    def __init__(self, app: Application, digest: str, name: str = "q") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=PATIENCE)
        body = {"model": name, "files": {"m.gguf": digest}, "quantize": "q8_0"}
        self._connection.connect()
        self._socket = self._connection.sock
        self._connection.request("POST", "/api/create", json.dumps(body))
        self._response = self._connection.getresponse()

    def until(self, **fields: Any) -> list[dict[str, Any]]:
        """Return the records up to the first one with these fields."""
        records: list[dict[str, Any]] = []
        while not records or any(records[-1].get(key) != value for key, value in fields.items()):
            line = self._response.readline()
            assert line, records
            records.append(json.loads(line))
        return records

    def leave(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()


@pytest.fixture
def digest(app: Application, tmp_path: Path) -> str:
    return app.upload(write_gguf(tmp_path / "m.gguf").read_bytes())


def blobs(app: Application) -> list[str]:
    return sorted(path.name for path in (app.home / ".ollama/models/blobs").iterdir())


def test_records_come_while_it_works(app: Application, digest: str, quantizer: Standing) -> None:
    creation = Creation(app, digest)
    status = "quantizing F16 model to Q8_0"
    assert creation.until(status=status, completed=256)[0] == {"status": "parsing GGUF"}
    quantizer.go.set()
    statuses = [record["status"] for record in creation.until(status="success")]
    assert statuses[:2] == [status, "verifying conversion"]
    creation.leave()
    assert app.post("/api/show", {"model": "q"}).json["details"]["quantization_level"] == "Q8_0"


def test_others_are_served_meanwhile(app: Application, digest: str, quantizer: Standing) -> None:
    creations = [Creation(app, digest, f"q{number}") for number in range(6)]
    for creation in creations:
        creation.until(completed=256)
    assert app.request("HEAD", f"/api/blobs/{digest}").status == 200
    assert app.get("/api/tags").json == {"models": []}
    app.create("other", (app.home.parent / "m.gguf").read_bytes(), system="Hi.")
    assert app.post("/api/show", {"model": "other"}).json["system"] == "Hi."
    quantizer.go.set()
    for creation in creations:
        creation.until(status="success")
        creation.leave()
    assert len(app.get("/api/tags").json["models"]) == 7


def test_a_client_that_leaves_ends_its_creation(app: Application, digest: str, quantizer: Standing) -> None:
    before = blobs(app)
    creation = Creation(app, digest)
    creation.until(completed=256)
    assert len(blobs(app)) == len(before) + 1
    creation.leave()
    quantizer.wait_for_end()
    quantizer.go.set()
    app.create("after", (app.home.parent / "m.gguf").read_bytes())
    wait_until_tidy(app)
    assert [model["name"] for model in app.get("/api/tags").json["models"]] == ["after:latest"]


def test_the_same_over_websocket(app: Application, digest: str, quantizer: Standing) -> None:
    body = {"files": {"m.gguf": digest}, "quantize": "q8_0"}

    async def left() -> None:
        async with connect(f"http://127.0.0.1:{app.port}", "/api/create") as connection:
            records = connection.stream(model="given-up", **body)
            while (await anext(records)).get("completed") != 256:
                pass
            await records.aclose()  # type: ignore[attr-defined]

    async def finished() -> list[dict[str, Any]]:
        async with connect(f"http://127.0.0.1:{app.port}", "/api/create") as connection:
            return [record async for record in connection.stream(model="q", **body)]

    asyncio.run(left())
    quantizer.wait_for_end()
    quantizer.go.set()
    assert asyncio.run(finished())[-1]["status"] == "success"
    assert [model["name"] for model in app.get("/api/tags").json["models"]] == ["q:latest"]
    wait_until_tidy(app)


def test_the_end_of_the_server_ends_it_too(quantizer: Standing, tmp_path: Path) -> None:
    app = Application(tmp_path / "home", OLLAMA_DRAIN_TIMEOUT="1ms")
    creation = Creation(app, app.upload(write_gguf(tmp_path / "m.gguf").read_bytes()))
    before = blobs(app)
    creation.until(completed=256)
    app.close()
    quantizer.wait_for_end()
    assert blobs(app) == [name for name in before if len(name) == 71]
    creation.close()


def test_refusals_before_and_after_the_first_record(app: Application, digest: str) -> None:
    for fields, status, fault in (
        ({"files": {"a": "x"}}, 400, "invalid digest format"),
        ({}, 400, "neither 'from' or 'files' was specified"),
        ({"files": {}}, 400, "unknown type"),
        ({"from": "x", "remote_host": "ftp://h"}, 400, "bad remote"),
        ({"from": "x:cloud", "draft_files": {"d": digest}}, 400, "DRAFT cannot be used with remote models"),
        ({"files": {"./a": digest}}, 400, "file path must be relative"),
        (
            {"files": {"a.gguf": digest}, "draft_quantize": "q8_0"},
            400,
            "--draft-quantize requires a DRAFT model",
        ),
    ):
        for stream in (True, False):
            reply = app.post("/api/create", {"model": "m", "stream": stream, **fields})
            assert (reply.status, reply.json) == (status, {"error": fault})
    streamed_faults: tuple[tuple[dict[str, Any], int, str], ...] = (
        (
            {"quantize": "q5_k_m"},
            400,
            "unsupported quantization type Q5_K_M - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0",
        ),
        ({"template": "{{ if }}"}, 400, "template error: template: :1: missing value for if"),
        ({"license": 1}, 500, "license must be a string or an array of strings"),
        ({"adapters": {"a.gguf": digest}}, 400, "the adapter is not a GGUF adapter file"),
    )
    for fields, status, fault in streamed_faults:
        body = {"model": "m", "files": {"m.gguf": digest}, **fields}
        reply = app.post("/api/create", body)
        assert (reply.status, reply.records[-1]) == (200, {"error": fault})
        reply = app.post("/api/create", {**body, "stream": False})
        assert (reply.status, reply.json) == (status, {"error": fault})
    assert app.get("/api/tags").json == {"models": []}
