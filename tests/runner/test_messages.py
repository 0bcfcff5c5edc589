"""Messages between the server and its child processes."""

import dataclasses
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tw.interfaces import (
    Choice,
    DoneReason,
    Job,
    LazyGrammar,
    Piece,
    PromptTooLong,
    RunnerError,
    Sampling,
    ThinkingBudget,
    TokenLogprob,
    Usage,
)
from ollama_tw.runner import messages
from ollama_tw.runner.encoding import InvalidMessage, Splitter, decode_from_child, decode_from_server, encode
from ollama_tw.runner.failures import to_exception, to_failure

JOB = Job(
    prompt="Grüße",
    sampling=Sampling(seed=7, temperature=0.25, top_k=3),
    stop=("a", "b"),
    max_tokens=9,
    grammar='root ::= "x"',
    logprobs=2,
    shift=True,
    keep=4,
    images=(b"\x89PNG\0\xff", b""),
    logit_bias=((1, 0.5), (2, -100.0)),
    preserved=("<call>",),
    ends=("</turn>",),
    lazy_grammar=LazyGrammar("root ::= .", ("<call>",), "</think>"),
    thinking=ThinkingBudget(3, "<think>", "</think>", "enough</think>"),
    drafts=4,
    partition=2,
)


def crossed(message: messages.FromServer) -> Any:
    (data,) = Splitter().feed(encode(message))
    return decode_from_server(data)


def test_a_job_crosses_with_all_its_fields() -> None:
    received = crossed(messages.Run(3, JOB))
    assert received.number == 3
    defaults = Job("")
    for field in dataclasses.fields(Job):
        if field.name == "cancel":
            continue
        value = getattr(JOB, field.name)
        assert value != getattr(defaults, field.name), f"the test does not set {field.name}"
        assert getattr(received.job, field.name) == value


def test_tokens_as_a_prompt_cross() -> None:
    assert crossed(messages.Run(1, Job((1, 2, 2**40)))).job.prompt == (1, 2, 2**40)


def test_an_event_crosses_as_its_state() -> None:
    cancelled = threading.Event()
    cancelled.set()
    assert crossed(messages.Run(1, Job("", cancel=cancelled))).job.cancel.is_set()
    assert not crossed(messages.Run(1, Job(""))).job.cancel.is_set()


def test_lone_surrogates_become_question_marks() -> None:
    received = crossed(messages.Run(1, dataclasses.replace(JOB, prompt="a\ud800b", stop=("\udfff",))))
    assert (received.job.prompt, received.job.stop) == ("a?b", ("?",))
    assert received.job.images == JOB.images
    assert crossed(messages.Tokenize(1, "\ud83d", True)).text == "?"


def test_pieces_of_several_runs_cross_in_one_message() -> None:
    logprob = TokenLogprob(Choice(b"\xe2\x82", -0.5), (Choice(b"x", -1.5),))
    pieces = [
        (1, Piece("a", (logprob,))),
        (2, Piece("", done=DoneReason.LENGTH, usage=Usage(1, 2, 3, 4, 5))),
    ]
    sent = messages.Output(pieces, [(4, None)], messages.Activity(1, 2, 3.5, 4))
    (data,) = Splitter().feed(encode(sent))
    assert decode_from_child(data) == sent


@given(st.lists(st.binary(max_size=50)), st.integers(1, 9))
def test_messages_are_found_wherever_the_stream_is_cut(contents: list[bytes], size: int) -> None:
    stream = b"".join(len(one).to_bytes(4) + one for one in contents)
    splitter = Splitter()
    found = [
        one for begin in range(0, len(stream), size) for one in splitter.feed(stream[begin : begin + size])
    ]
    assert found == contents


def test_a_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="a message of 4294967295 bytes is longer than"):
        list(Splitter().feed(b"\xff" * 4))


def test_a_message_with_invalid_text_is_refused() -> None:
    (data,) = Splitter().feed(encode(messages.Tokenize(1, "abc", True)))
    assert b"abc" in data
    with pytest.raises(InvalidMessage):
        decode_from_server(data.replace(b"abc", b"a\xffc"))


@given(st.binary(max_size=200))
def test_what_is_no_message_is_refused(data: bytes) -> None:
    for decode in (decode_from_child, decode_from_server):
        try:
            decode(data)
        except InvalidMessage:
            continue


def test_exceptions_cross_with_what_their_handlers_need() -> None:
    error = to_exception(to_failure(PromptTooLong(9, 5, 3)))
    assert isinstance(error, PromptTooLong)
    assert (error.prompt_tokens, error.context_length, error.index) == (9, 5, 3)
    error = to_exception(to_failure(RunnerError("the engine is out of order")))
    assert (type(error), str(error)) == (RunnerError, "the engine is out of order")


def test_an_exception_beyond_the_contract_is_logged_and_its_text_does_not_cross(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = to_exception(to_failure(ZeroDivisionError("/secret/path")))
    assert (type(error), str(error)) == (RunnerError, "the engine failed; see the server's log")
    assert "/secret/path" in caplog.text
