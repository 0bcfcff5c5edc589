import json
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from ollama_tw.dialects.openai.chat import CompletionIdentity
from ollama_tw.dialects.openai.completions import (
    ChoiceStream,
    CompletionRequest,
    echoes,
    native_requests,
    whole_reply,
)
from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode
from ollama_tw.wire.native import GenerateRecord, Logprob, TokenLogprob

IDENTITY = CompletionIdentity("cmpl-1", 1700000000, "m")


def read(**fields: Any) -> CompletionRequest:
    return decode(json.dumps({"model": "m", **fields}).encode(), CompletionRequest, go_type="x")


def record(text: str, reason: str = "") -> GenerateRecord:
    return GenerateRecord(
        model="m", created_at="t", response=text, done=bool(reason), done_reason=reason or UNSET
    )


@pytest.mark.parametrize(
    ("logprobs", "asked"), [({}, (False, 0)), ({"logprobs": 0}, (True, 0)), ({"logprobs": 3}, (True, 3))]
)
def test_zero_log_probabilities_are_those_of_the_tokens(logprobs: Any, asked: tuple[bool, int]) -> None:
    [[(native, _)]] = native_requests(read(prompt="a", **logprobs))
    assert (native.logprobs, native.top_logprobs) == asked


def test_the_prompt_is_echoed_before_each_answer() -> None:
    request = read(prompt=["a", "b"], n=2, echo=True)
    answers = [[record("1", "stop")] * 2, [record("2", "length")] * 2]
    reply = whole_reply(IDENTITY, answers, echoes(request))
    assert [one["text"] for one in reply["choices"]] == ["a1", "a1", "b2", "b2"]
    stream = ChoiceStream(IDENTITY, 0, with_usage=False, now=lambda: 1, echo="a")
    texts = [
        chunk["choices"][0]["text"]
        for one in (record("1"), record("2"), record("", "stop"))
        for chunk in stream.feed(one)
    ]
    assert texts == ["a1", "2", ""]
    assert echoes(read(prompt=["a", "b"])) == ["", ""]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"best_of": 2}, '"best_of" above "n" is not supported: request "n" answers and choose among them'),
        (
            {"echo": True, "logprobs": 1},
            '"echo" is not supported with "logprobs": the prompt has no log probabilities here',
        ),
        ({"echo": True, "max_tokens": 0}, '"max_tokens" must be at least 1 with "echo"'),
        ({"echo": True, "prompt": [1, 2]}, '"echo" is supported for text prompts without "suffix" only'),
        ({"echo": True, "suffix": "x"}, '"echo" is supported for text prompts without "suffix" only'),
    ],
)
def test_what_cannot_be_done_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OllamaError) as error:
        native_requests(read(**{"prompt": "a", **fields}))
    assert (error.value.status, error.value.message) == (400, message)


def test_as_many_candidates_as_answers_are_no_choice() -> None:
    assert len(native_requests(read(prompt="a", best_of=2, n=3))[0]) == 3


@pytest.mark.parametrize(
    ("native", "reason"), [("stop", "stop"), ("length", "length"), ("load", "stop"), ("repetition", "length")]
)
def test_reasons_of_the_native_api_are_not_shown(native: str, reason: str) -> None:
    reply = whole_reply(IDENTITY, [[record("", native)]], [""])
    assert reply["choices"][0]["finish_reason"] == reason


def test_special_tokens_can_be_part_of_the_text() -> None:
    [[(_, extras)]] = native_requests(read(prompt=[1, 2], preserved=["<think>"]))
    assert (extras.prompt_tokens, extras.preserved) == ((1, 2), ("<think>",))


def test_log_probabilities_have_the_bytes_of_the_tokens_too() -> None:
    half = Logprob("\ufffd", -0.5, [0xC3], [TokenLogprob("\ufffd", -0.5, [0xC3])])
    reply = whole_reply(IDENTITY, [[replace(record("", "length"), logprobs=[half])]], [""])
    token = {"token": "\ufffd", "logprob": -0.5, "bytes": [0xC3]}
    assert reply["choices"][0]["logprobs"]["content"] == [{**token, "top_logprobs": [token]}]
