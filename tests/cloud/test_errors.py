"""Errors of other servers, and of the connections to them."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.conftest import add_stub
from tests.cloud.remote import Asked, Remote, chunk, head, line, streaming_head
from tests.helpers.application import Application

RECORD = {"model": "big:7b", "created_at": "2026-01-01T00:00:00Z", "response": "yes", "done": False}
NAMES = ("m:cloud", "stub")


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


def streamed(app: Application, name: str) -> list[Any]:
    reply = app.generate(model=name, stream=True)
    assert reply.status == 200
    return lines(reply.body)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_errors_are_relayed(app: Application, scripted: Remote, name: str, status: int) -> None:
    scripted.reply_with({"error": "no such luck"}, status)
    reply = app.generate(model=name)
    assert (reply.status, reply.json) == (status, {"error": "no such luck"})
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"


def test_error_objects_and_retry_after(app: Application, scripted: Remote) -> None:
    scripted.reply_with(b'{\n "error": {"message": "slow down", "type": "x"}}', 429, Retry_After="17")
    reply = app.post("/v1/chat/completions", {"model": "m:cloud", "messages": []})
    assert (reply.status, reply.body) == (429, b'{"error":{"message":"slow down","type":"x"}}')
    assert reply.headers["Retry-After"] == "17"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<html><script>alert(1)</script></html>", "the remote server answered with status 500"),
        (b"", "the remote server answered with status 500"),
        (b"{broken", "the remote server answered with status 500"),
        (b"[]", "the remote server answered with status 500"),
        (b"{}", "the remote server answered with status 500"),
        (b"out of\r\nluck\n", "out of luck"),
        (b"x" * 9000, "x" * 500),
        (b"x" * 100_000, "the remote server answered with status 500"),
    ],
)
def test_error_bodies_that_are_not_objects(
    app: Application, scripted: Remote, name: str, body: bytes, text: str
) -> None:
    scripted.reply_with(body, 500, Content_Type="text/html")
    reply = app.generate(model=name)
    assert (reply.status, reply.json) == (500, {"error": text})
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions", "/v1/messages"])
def test_without_an_account(app: Application, scripted: Remote, path: str) -> None:
    scripted.reply_with({"error": "who are you"}, 401)
    reply = app.post(path, {"model": "m:cloud"})
    assert (reply.status, reply.json["error"]) == (401, "unauthorized")
    assert reply.json["signin_url"].startswith("https://ollama.com/connect?name=")
    assert "&key=c3NoLWVkMjU1MTkg" in reply.json["signin_url"]


def test_without_an_account_for_a_stub(app: Application, scripted: Remote) -> None:
    scripted.reply_with({"error": "who are you"}, 401)
    reply = app.generate(model="signed")
    assert (reply.status, reply.json["error"]) == (401, "unauthorized")
    assert "signin_url" in reply.json
    # Only the cloud has accounts.
    reply = app.generate(model="stub")
    assert (reply.status, reply.json) == (401, {"error": "who are you"})


def test_an_unreadable_key(app: Application, scripted: Remote) -> None:
    key: Path = app.home / ".ollama/id_ed25519"
    content = key.read_bytes()
    key.write_bytes(b"no key")
    try:
        reply = app.generate(model="m:cloud")
    finally:
        key.write_bytes(content)
    assert (reply.status, reply.json) == (401, {"error": "unauthorized"})
    assert scripted.asked == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(app: Application, scripted: Remote, name: str, status: int) -> None:
    scripted.reply_with(b"", status, Location=f"{scripted.url}/elsewhere")
    reply = app.generate(model=name)
    assert reply.status == 502
    assert reply.json["error"].endswith("sent a redirect, which is not followed")
    assert "Location" not in reply.headers
    assert len(scripted.asked) == 1


def test_an_unreachable_server(app: Application) -> None:
    with socket.socket() as unused:
        # Bound and not listening: connections are refused, and no other program gets the port.
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        add_stub(app, "nobody", f"http://localhost:{port}", "m")
        reply = app.generate(model="nobody")
    assert reply.status == 502
    assert reply.json["error"] == (
        f'Post "http://localhost:{port}/api/generate": dial tcp localhost:{port}: connect: connection refused'
    )


def test_a_server_without_tls(app: Application, scripted: Remote) -> None:
    add_stub(app, "secure", f"https://localhost:{scripted.port}", "m")
    reply = app.generate(model="secure")
    assert reply.status == 502
    assert reply.json["error"] == (
        f'Post "https://localhost:{scripted.port}/api/generate": '
        "http: server gave HTTP response to HTTPS client"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sent", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_responses_that_are_not_http(app: Application, scripted: Remote, name: str, sent: bytes) -> None:
    scripted.answer = lambda asked, wire: wire.sendall(sent)
    reply = app.generate(model=name)
    assert (reply.status, list(reply.json)) == (502, ["error"])


@pytest.mark.parametrize("name", NAMES)
def test_a_connection_lost_before_the_first_record(app: Application, scripted: Remote, name: str) -> None:
    scripted.stream(end=b"")
    reply = app.generate(model=name, stream=True)
    assert (reply.status, list(reply.json)) == (502, ["error"])
    scripted.answer = lambda asked, wire: wire.sendall(
        head(200, **{"Content-Type": "application/json", "Content-Length": "100"}) + b'{"model"'
    )
    reply = app.generate(model=name)
    assert (reply.status, list(reply.json)) == (502, ["error"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("half", [b"", b'{"model":"big', line(**RECORD)[:-1]])
def test_a_connection_lost_within_a_stream(
    app: Application, scripted: Remote, name: str, half: bytes
) -> None:
    scripted.stream(line(**RECORD), *([half] if half else []), end=b"")
    first, last = streamed(app, name)
    assert (first["response"], list(last)) == ("yes", ["error"])
    assert last["error"].startswith(("127.0.0.1:", "localhost:"))


def test_a_stream_without_a_final_record(app: Application, scripted: Remote) -> None:
    scripted.stream(line(**RECORD))
    assert streamed(app, "stub")[1:] == [{"error": "the remote server ended its reply early"}]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "bad",
    [
        b"garbage\n",
        b"[1]\n",
        b"{}\n",
        b'"x"\n',
        b"null\n",
        b'{"model":\n',
        b"[" * 5000 + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_invalid_records(app: Application, scripted: Remote, name: str, bad: bytes) -> None:
    scripted.stream(line(**RECORD), bad, line(**RECORD))
    *records, last = streamed(app, name)
    assert [record["response"] for record in records] == ["yes"]
    assert last == {"error": "the remote server sent an invalid record"}


def test_records_of_the_wrong_type(app: Application, scripted: Remote) -> None:
    for bad in ({"response": 5}, {"response": "x", "done": "yes"}, {"message": "hi"}):
        scripted.reply_with({"model": "m", "created_at": "x", **bad})
        reply = app.chat("hi", model="stub")
        assert (reply.status, reply.json["error"]) == (
            502,
            "the remote server sent an invalid record",
        )


@pytest.mark.parametrize("name", NAMES)
def test_an_error_in_the_stream(app: Application, scripted: Remote, name: str) -> None:
    scripted.stream(line(**RECORD), line(error="it fell over"))
    assert streamed(app, name)[1:] == [{"error": "it fell over"}]


@pytest.mark.parametrize("name", NAMES)
def test_an_unbounded_line(app: Application, scripted: Remote, name: str) -> None:
    def answer(asked: Asked, wire: socket.socket) -> None:
        wire.sendall(streaming_head() + chunk(line(**RECORD)))
        while True:
            wire.sendall(chunk(b"x" * 65536))

    scripted.answer = answer
    *_, last = streamed(app, name)
    assert last["error"].endswith("sent a record of more than 16777216 bytes")
    assert scripted.gone.wait(30)


@pytest.mark.parametrize("name", NAMES)
def test_an_unbounded_reply(app: Application, scripted: Remote, name: str) -> None:
    def answer(asked: Asked, wire: socket.socket) -> None:
        wire.sendall(streaming_head("application/json"))
        while True:
            wire.sendall(chunk(b" " * 262144))

    scripted.answer = answer
    reply = app.generate(model=name)
    assert reply.status == 502
    assert reply.json["error"].endswith("sent more than 67108864 bytes")
    assert scripted.gone.wait(30)


@pytest.mark.parametrize("body", [b"", b"5", b"[{}]", b"{}", b'{"a":1', b"null", b'{"a":"\xff"}'])
def test_replies_that_are_not_objects(app: Application, scripted: Remote, body: bytes) -> None:
    scripted.reply_with(body)
    reply = app.generate(model="m:cloud")
    text = "the remote server did not return a JSON object"
    assert (reply.status, reply.json) == (502, {"error": text})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", [204, 600, 999])
def test_unusual_statuses(app: Application, scripted: Remote, name: str, status: int) -> None:
    scripted.reply_with(b"", status)
    assert app.generate(model=name).status == 502


@pytest.mark.parametrize("kind", ["text/html", "", "application/octet-stream"])
def test_media_types_of_replies(app: Application, scripted: Remote, kind: str) -> None:
    scripted.reply_with(b"<script>alert(1)</script>", 200, Content_Type=kind)
    reply = app.generate(model="m:cloud")
    assert (reply.status, reply.json) == (
        502,
        {"error": "the remote server did not return a JSON object"},
    )
    # JSON with another media type is relayed as JSON.
    scripted.reply_with({"a": 1}, 200, Content_Type=kind)
    reply = app.generate(model="m:cloud")
    assert (reply.status, reply.json) == (200, {"a": 1})
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"


def test_compression_that_was_not_requested(app: Application, scripted: Remote) -> None:
    scripted.reply_with({"a": 1}, 200, Content_Encoding="gzip")
    assert app.generate(model="m:cloud").status == 502


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_connection_lost_within_events(app: Application, scripted: Remote, path: str) -> None:
    scripted.stream(b'data: {"a":1}\n\n', b'data: {"b', kind="text/event-stream; charset=utf-8", end=b"")
    reply = app.post(path, {"model": "m:cloud", "stream": True})
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/event-stream")
    first, last = (event for event in reply.body.split(b"\n\n") if event)
    assert first == b'data: {"a":1}'
    error = json.loads(last.strip().removeprefix(b"data: "))["error"]
    assert (error["type"], error["message"].endswith("the connection was lost")) == ("api_error", True)


def test_a_connection_lost_within_anthropic_events(app: Application, scripted: Remote) -> None:
    scripted.stream(b'event: ping\ndata: {"type": "ping"}\n', kind="text/event-stream", end=b"")
    reply = app.post("/v1/messages", {"model": "m:cloud", "stream": True})
    first, last = (event for event in reply.body.split(b"\n\n") if event)
    assert first == b'event: ping\ndata: {"type": "ping"}'
    assert last.startswith(b"event: error\ndata: ")
    assert json.loads(last.partition(b"data: ")[2])["error"]["type"] == "api_error"


def test_later_requests_are_served(app: Application, scripted: Remote) -> None:
    """The server still works after the requests above."""
    scripted.reply_with({**RECORD, "done": True})
    assert app.generate(model="stub").json["response"] == "yes"
