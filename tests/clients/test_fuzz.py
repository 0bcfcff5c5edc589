"""Arbitrary bodies never give an internal error."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WORDS = st.sampled_from(
    [
        *("", "SAY hi", "user", "assistant", "tool", "system", "developer", "text", "image_url", "image"),
        *("input_text", "input_image", "input_audio", "function", "tool_use", "tool_result", "thinking"),
        *("message", "function_call", "function_call_output", "reasoning", "json_object", "json_schema"),
        *("auto", "none", "required", "any", "high", "xhigh", "base64", "aGk=", "{}", '{"a":1}', "["),
        *("data:image/png;base64,aGk=", "http://x/y", "weather", "\ud800", "plain", "talker"),
    ]
)
KEYS = st.sampled_from(
    [
        *(
            "role",
            "content",
            "type",
            "text",
            "name",
            "function",
            "arguments",
            "parameters",
            "tool_calls",
            "id",
        ),
        *("tool_call_id", "call_id", "output", "image_url", "url", "source", "data", "input", "input_schema"),
        *(
            "schema",
            "json_schema",
            "format",
            "effort",
            "include_usage",
            "$ref",
            "properties",
            "enum",
            "tools",
        ),
        *("num_ctx", "stop", "temperature", "mode", "allowed_tools", "description", "encrypted_content"),
        *("media_type", "input_audio", "tool_use_id", "thinking", "budget_tokens", "1", "100000000"),
    ]
)
VALUES: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MESSAGE = {"role": "user", "content": "SAY hi"}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": [MESSAGE],
        "tools": [TOOL],
        **dict.fromkeys(
            ("tool_choice", "stop", "response_format", "reasoning", "reasoning_effort", "logit_bias", "n")
        ),
        **dict.fromkeys(("seed", "top_p", "max_tokens", "logprobs", "top_logprobs", "options", "stream")),
    },
    "/v1/completions": {
        "prompt": "SAY hi",
        **dict.fromkeys(
            ("stop", "n", "logprobs", "logit_bias", "suffix", "seed", "stream_options", "options")
        ),
    },
    "/v1/responses": {
        "input": "SAY hi",
        "tools": [{"type": "function", "name": "weather", "parameters": {}}],
        **dict.fromkeys(
            ("tool_choice", "text", "reasoning", "instructions", "truncation", "stream", "top_p")
        ),
    },
    "/v1/messages": {
        "max_tokens": 9,
        "messages": [MESSAGE],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
        **dict.fromkeys(("system", "tool_choice", "thinking", "output_config", "stop_sequences", "stream")),
    },
    "/v1/messages/count_tokens": {
        "messages": [MESSAGE],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
        **dict.fromkeys(("system", "tool_choice", "thinking")),
    },
    "/v1/rerank": {
        "query": "hi",
        "documents": ["hi", {"text": "there"}],
        **dict.fromkeys(("top_n", "return_documents", "options", "keep_alive")),
    },
    "/api/tokenize": {"text": "hi"},
    "/api/detokenize": {"tokens": [1]},
}


def wounded(body: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return ``body`` with some fields replaced or values added to its lists."""
    fields = st.dictionaries(st.sampled_from(sorted(body)), VALUES, min_size=1, max_size=3)
    lists = [key for key, value in body.items() if isinstance(value, list)]
    inner = st.dictionaries(KEYS, VALUES, max_size=4)
    within = (
        st.builds(
            lambda key, item: {key: [*body[key], {**body[key][0], **item}]}, st.sampled_from(lists), inner
        )
        if lists and isinstance(body[lists[0]][0], dict)
        else fields
    )
    return st.one_of(fields, within).map(lambda changes: {**body, **changes})


@pytest.fixture(scope="module")
def client(scripted: str) -> Any:
    with httpx.Client(base_url=scripted, timeout=60) as client:
        yield client


@pytest.mark.parametrize("path", BODIES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_body_gives_an_internal_error(client: httpx.Client, path: str, data: st.DataObject) -> None:
    body = data.draw(wounded({"model": data.draw(st.sampled_from(["plain", "talker"])), **BODIES[path]}))
    # json.dumps escapes lone surrogates, so that they reach the server as well.
    reply = client.post(path, content=json.dumps(body))
    assert reply.status_code in (200, 400, 404, 501), reply.text
    assert "internal server error" not in reply.text
    assert "see the server's log" not in reply.text


@settings(max_examples=60, deadline=None)
@given(path=st.sampled_from(sorted(BODIES)), content=st.binary(max_size=40))
def test_no_bytes_give_an_internal_error(client: httpx.Client, path: str, content: bytes) -> None:
    assert client.post(path, content=content).status_code in (400, 404)
