"""Arbitrary responses of another server: the client gets one complete reply, and the server keeps running."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cloud.remote import Remote, chunk, line, streaming_head
from tests.helpers.application import Application

_FIELDS = st.sampled_from(
    [
        b"Content-Type: application/x-ndjson\r\n",
        b"Content-Type: application/json\r\n",
        b"Content-Type: text/event-stream\r\n",
        b"Content-Type: \xff\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Content-Encoding: br\r\n",
        b"Location: http://127.0.0.1:1/\r\n",
        b"Retry-After: \x01\r\n",
        b"Connection: keep-alive\r\n",
        b"broken\r\n",
        b": \r\n",
    ]
)
_PIECES = st.sampled_from(
    [
        b"",
        b"\n",
        b"{}",
        b'{"a":1}\n',
        b'{"error":5}\n',
        b'{"error":"x"}\n',
        b"0\r\n\r\n",
        b"5\r\nabc\r\n",
        b"ffffffffffffffff\r\n",
        b"-1\r\n",
        b"\x00\xff",
        chunk(line(model="m", created_at="x", response="y", done=False)),
        chunk(line(model="m", created_at="x", response="y", done=True)),
        chunk(b'{"response":"'),
        chunk(b"data: {}\n\n"),
        b"HTTP/1.1 200 OK\r\n\r\n",
    ]
)
_HEADS = st.one_of(
    st.just(streaming_head()),
    st.builds(
        lambda status, fields: b"HTTP/1.1 " + status + b"\r\n" + b"".join(fields) + b"\r\n",
        st.sampled_from(
            [b"200 OK", b"100 Go on", b"101 Upgrade", b"204 No", b"302 No", b"404 No", b"500", b"999 x"]
        ),
        st.lists(_FIELDS, max_size=3),
    ),
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=_HEADS, pieces=st.lists(_PIECES, max_size=4), stub=st.booleans(), stream=st.booleans())
def test_arbitrary_responses(
    app: Application, scripted: Remote, head: bytes, pieces: list[bytes], stub: bool, stream: bool
) -> None:
    scripted.answer = lambda asked, wire: wire.sendall(head + b"".join(pieces))
    reply = app.generate(model="stub" if stub else "m:cloud", stream=stream)
    assert reply.status in (200, 404, 500, 502)
    if reply.headers["Content-Type"] != "text/event-stream":
        assert all(type(json.loads(one)) is dict for one in reply.body.splitlines())
    scripted.reply_with({"model": "m", "created_at": "x", "response": "well", "done": True})
    assert app.generate(model="stub").json["response"] == "well"
