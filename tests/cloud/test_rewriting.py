"""Rewriting of requests and responses."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.cloud.rewriting import (
    LineSplitter,
    LineTooLong,
    compact,
    compact_object,
    error_in,
    error_text,
    forwarded_headers,
    model_of,
    signed_target,
    with_model,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(max_size=6).map(lambda data: data.replace(b"\xff", b"\n"))))
def test_lines_do_not_depend_on_chunks(chunks: list[bytes]) -> None:
    lines = LineSplitter(1000)
    found = [line for chunk in chunks for line in lines.feed(chunk)]
    *expected, last = b"".join(chunks).split(b"\n")
    assert found == [line.removesuffix(b"\r") for line in expected]
    assert lines.end() == last


@pytest.mark.parametrize("pieces", [[b"12345"], [b"12", b"345"], [b"\n12345"], [b"1\n2", b"3456"]])
def test_a_line_over_the_limit(pieces: list[bytes]) -> None:
    lines = LineSplitter(4)
    *first, last = pieces
    for piece in first:
        lines.feed(piece)
    with pytest.raises(LineTooLong):
        lines.feed(last)
    assert LineSplitter(4).feed(b"1234\n1234\n") == [b"1234", b"1234"]


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda key: key.lower() not in ("model", "name")),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)),
        max_size=4,
    )
)
def test_other_members_are_unchanged(members: dict[str, object]) -> None:
    body = json.dumps({**members, "model": "m:cloud"}).encode()
    assert json.loads(with_model(body, "m")) == {**members, "model": "m"}


def test_the_model_is_replaced_at_any_position() -> None:
    assert with_model(b'{"MODEL":"a","n":1.50,"name":"b"}', "m") == b'{"model":"m","n":1.50}'
    assert json.loads(with_model(b'{"model":"a","x":"\\ud83d"} rest', "m")) == {"model": "m", "x": "\ufffd"}


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"a"}', "a"),
        (b'{"Model":"a"}', "a"),
        (b'{"messages":[{"model":"b"}]}', ""),
        (b'{"model":"a"} rest', "a"),
        (b'{"model":5}', ""),
        (b'{"model":null}', ""),
        (b"[]", ""),
        (b"", ""),
        (b"{", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_the_model_of_a_body(body: bytes, model: str) -> None:
    assert model_of(body) == model


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("", "/p?ts=12"),
        ("b=2&a=1", "/p?a=1&b=2&ts=12"),
        ("ts=99&z=%2F+x&empty=", "/p?empty=&ts=12&z=%2F+x"),
        ("a=2&a=1", "/p?a=2&a=1&ts=12"),
    ],
)
def test_signed_targets(query: str, target: str) -> None:
    assert signed_target("/p", query, 12.9) == target


def test_headers() -> None:
    given_ = [("Accept", "a"), ("X-One", "1"), ("X-One", "2"), ("Connection", "close, x-two"), ("X-Two", "2")]
    assert forwarded_headers([*given_, ("Proxy-Authorization", "x"), ("authorization", "x")]) == {
        "accept": "a",
        "x-one": "1, 2",
    }


@pytest.mark.parametrize("value", [b"", b"{", b"{} x", b'{"a":1,}', b'{"a":"\xff"}', b"[" * 9999, b"nul"])
def test_invalid_json(value: bytes) -> None:
    assert compact(value) is None


def test_valid_json() -> None:
    assert compact(b' [1.0, {"a": 12345678901234567890}]\n') == b'[1.0,{"a":12345678901234567890}]'
    assert compact_object(b'{ "a" : 1 }') == b'{"a":1}'
    assert [compact_object(value) for value in (b"{}", b"[]", b"1", b'"{}"')] == [None] * 4


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (b'{"error":"x"}', "x"),
        (b'{"error":{"message":"x"}}', "x"),
        (b'{"error":""}', None),
        (b'{"message":{"error":"x"}}', None),
        (b'{"response":"\\"error\\""}', None),
        (b'"error"', None),
    ],
)
def test_errors_in_records(record: bytes, text: str | None) -> None:
    assert error_in(record) == text


def test_error_texts_have_one_line() -> None:
    assert error_text(500, b"a\x00b\r\nc") == "a b c"
    assert error_text(418, b"") == "the remote server answered with status 418"
    assert error_text(400, b'{"error":"two\\nlines"}') == "two lines"
