"""Replies of both kinds of server, split anywhere."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.cli.bench.dialects import DIALECTS, Counts, Reply

OLLAMA = (
    b'{"model":"m","response":"","done":false}\n'
    b'{"model":"m","response":"Good","done":false}\n'
    b'{"model":"m","response":" day","done":false}\n'
    b'{"model":"m","response":"","done":true,"prompt_eval_count":9,"eval_count":3,"prompt_cached_count":4}\n'
)
OPENAI = (
    b'data: {"choices":[{"text":"Good","finish_reason":null}]}\n\n'
    b": still here\n\n"
    b'data: {"choices":[{"text":" day","finish_reason":null}]}\r\n\r\n'
    b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"completion_tokens":2,"prompt_tokens":6,'
    b'"prompt_tokens_details":{"cached_tokens":5}}}\n\n'
    b"data: [DONE]\n\n"
)


def test_an_ollama_reply_counts_text_from_its_first_piece_to_its_last() -> None:
    reply = Reply(DIALECTS["ollama"])
    for number, line in enumerate(OLLAMA.splitlines(keepends=True)):
        reply.feed(line, float(number))
    assert reply.finish() == (Counts(output=3, prompt=9, cached=4), [1.0, 2.0])
    assert reply.whole_text() == "Good day"


def test_an_openai_reply_ends_with_its_usage() -> None:
    reply = Reply(DIALECTS["openai"])
    reply.feed(OPENAI, 5.0)
    assert reply.finish() == (Counts(output=2, prompt=6, cached=5), [5.0, 5.0])
    assert reply.whole_text() == "Good day"


@settings(max_examples=50)
@given(cut=st.integers(0, len(OPENAI)))
def test_where_the_bytes_are_cut_changes_nothing(cut: int) -> None:
    reply = Reply(DIALECTS["openai"])
    reply.feed(OPENAI[:cut], 1.0)
    reply.feed(OPENAI[cut:], 1.0)
    assert reply.finish() == (Counts(output=2, prompt=6, cached=5), [1.0, 1.0])


@pytest.mark.parametrize(
    ("dialect", "body", "text"),
    [
        ("ollama", b'{"response":"a","done":false}\n{"error":"out of memory"}\n', "out of memory"),
        ("openai", b'data: {"error":{"message":"gone","code":500}}\n\n', "gone"),
        ("ollama", b'{"response":"a","done":false}\n', "the reply ended without its token counts"),
        ("openai", b"", "the reply ended without its token counts"),
    ],
)
def test_a_reply_that_fails_on_its_way_is_a_failure(dialect: str, body: bytes, text: str) -> None:
    reply = Reply(DIALECTS[dialect])
    reply.feed(body, 0.0)
    with pytest.raises(ValueError, match=f"^{text}$"):
        reply.finish()


def test_both_dialects_ask_for_the_same_work() -> None:
    assert DIALECTS["ollama"].body("m", "one two", 8) == {
        "model": "m",
        "prompt": "one two",
        "raw": True,
        "stream": True,
        "keep_alive": "2h",
        "options": {"num_predict": 8, "temperature": 0, "repeat_penalty": 1.0},
    }
    assert DIALECTS["openai"].body("m", "one two", 8) == {
        "model": "m",
        "prompt": "one two",
        "max_tokens": 8,
        "temperature": 0,
        "repeat_penalty": 1.0,
        "ignore_eos": True,
        "cache_prompt": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
