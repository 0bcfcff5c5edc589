"""Pure parts of the HTTP client."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.cli.bench.exchange import ChunkDecoder, PlainDecoder, Server, parse_head, request_bytes

CHUNKED = b"5\r\nhello\r\n1;name=x\r\n,\r\nb\r\n world\r\nok!\r\n0\r\n\r\n"


@settings(max_examples=80)
@given(cuts=st.lists(st.integers(0, len(CHUNKED)), max_size=6))
def test_a_chunked_body_is_joined_wherever_it_is_cut(cuts: list[int]) -> None:
    decoder = ChunkDecoder()
    edges = [0, *sorted(cuts), len(CHUNKED)]
    content = b"".join(decoder.feed(CHUNKED[a:b]) for a, b in pairwise(edges))
    assert content == b"hello, world\r\nok!"
    assert decoder.done


def test_a_chunk_is_given_before_it_is_complete() -> None:
    decoder = ChunkDecoder()
    assert decoder.feed(b"a\r\nhel") == b"hel"
    assert not decoder.done


def test_a_bad_chunk_size_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        ChunkDecoder().feed(b"zz\r\n")


def test_a_body_with_a_length_ends_there() -> None:
    decoder = PlainDecoder(4)
    assert decoder.feed(b"ab") == b"ab"
    assert not decoder.done
    assert decoder.feed(b"cd") == b"cd"
    assert decoder.done


def test_a_head_gives_status_and_kind_of_body() -> None:
    status, decoder = parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")
    assert status == 200
    assert isinstance(decoder, ChunkDecoder)
    status, decoder = parse_head(b"HTTP/1.1 503 Busy\r\ncontent-length: 0")
    assert status == 503
    assert isinstance(decoder, PlainDecoder)
    assert decoder.done


def test_what_is_not_http_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^not an HTTP reply: 'SSH-2.0'$"):
        parse_head(b"SSH-2.0")
    redirects = re.escape("it redirects to https://h.example/ (301): name the address that it leads to")
    with pytest.raises(ValueError, match=redirects):
        parse_head(b"HTTP/1.1 301 Moved Permanently\r\nLocation: https://h.example/")


def test_a_request_goes_below_the_path_of_its_url() -> None:
    server = Server("ours", "ollama", "http://127.0.0.1:11434/base/", "m")
    head, _, body = request_bytes(server, "hi", 2).partition(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        "POST /base/api/generate HTTP/1.1",
        "Host: 127.0.0.1:11434",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
