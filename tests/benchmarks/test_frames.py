"""Pure parts of the WebSocket client."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.frames import FrameReader, check_head, client_frame, handshake, request_frame

SENT = (
    b"\x81\x05hello"
    b"\x89\x01p"
    b"\x81\x7e\x00\xc8" + b"m" * 200 + b"\x81\x7f\x00\x00\x00\x00\x00\x01\x11\x70" + b"l" * 70_000
)


@settings(max_examples=60)
@given(cuts=st.lists(st.integers(0, 300) | st.integers(0, len(SENT)), max_size=8))
def test_messages_are_whole_wherever_they_are_cut(cuts: list[int]) -> None:
    reader = FrameReader()
    edges = [0, *sorted(cuts), len(SENT)]
    payloads = [payload for a, b in pairwise(edges) for payload in reader.feed(SENT[a:b])]
    assert payloads == [b"hello", b"m" * 200, b"l" * 70_000]


def test_the_end_of_a_connection_is_an_error() -> None:
    with pytest.raises(EOFError, match="closed the WebSocket"):
        FrameReader().feed(b"\x81\x05hello\x88\x02\x03\xe9")


def test_a_request_is_masked_text() -> None:
    frame = request_frame({"id": 1})
    assert frame == b"\x81\x89\x00\x00\x00\x00" + json.dumps({"id": 1}).encode()


@pytest.mark.parametrize(
    ("size", "head"),
    [(125, b"\xfd"), (126, b"\xfe\x00\x7e"), (65_536, b"\xff\x00\x00\x00\x00\x00\x01\x00\x00")],
)
def test_lengths_take_their_shortest_form(size: int, head: bytes) -> None:
    assert client_frame(b"x" * size, compressed=True) == b"\xc1" + head + bytes(4) + b"x" * size


def test_a_handshake_asks_for_an_upgrade_at_the_path() -> None:
    head = handshake("http://127.0.0.1:99", "/api/chat", "Origin: http://localhost").decode()
    assert head.startswith("GET /api/chat HTTP/1.1\r\nHost: 127.0.0.1:99\r\n")
    assert head.endswith("\r\nOrigin: http://localhost\r\n\r\n")
    assert "\r\nUpgrade: websocket\r\n" in head


def test_a_refusal_is_an_error_with_its_status_line() -> None:
    check_head(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    with pytest.raises(ValueError, match=r"^HTTP/1.1 403 Forbidden$"):
        check_head(b"HTTP/1.1 403 Forbidden\r\nServer: x\r\n\r\n")
