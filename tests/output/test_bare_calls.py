"""Replies that are nothing but calls, without the tags of the model's family."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tw.output.description import Description
from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.output.stream_parser import Content, StreamParser
from tests.output.test_stream_parser import BARE, HERMES, LFM2, LLAMA, QWEN3, THINK_HERMES, TOOLS, XML, parsed

QWEN_CODER = BY_NAME["qwen3-vl-instruct"]
ADD = '{"name": "add", "arguments": {"b": 2, "a": 1}}'
ADDED = ("call", (0, "add", '{"b": 2, "a": 1}'))
NOW = ("call", (1, "now", "{}"))

CALLS = [
    (ADD, [ADDED]),
    (f"\n {ADD}\n\n", [ADDED]),
    (f"```json\n{ADD}\n```", [ADDED]),
    (f"```\n{ADD}\n```\n", [ADDED]),
    (f"```json\n{ADD}\n", [ADDED]),
    (f"[{ADD}]", [ADDED]),
    (f'[{ADD}, {{"name": "now", "parameters": {{}}}}]', [ADDED, NOW]),
    (f'{ADD}\n{{"name": "now", "arguments": {{}}}}', [ADDED, NOW]),
    (f'```json\n{ADD},\n{{"name": "now", "arguments": {{}}}}\n```', [ADDED, NOW]),
    ('{"name": "add", "arguments": "{\\"b\\": 2, \\"a\\": 1}"}', [ADDED]),
    ('{"type": "function", "function": {"name": "add", "arguments": {"b": 2, "a": 1}}}', [ADDED]),
    ('{"id": "1", "function": "add", "parameters": {"b": 2, "a": 1}}', [ADDED]),
    (f"<tool_call>{ADD}</tool_call>", [ADDED]),
]

TEXTS = [
    f"I call it: {ADD}",
    f"{ADD} That was the call.",
    f"```json\n{ADD}\n```\nThat was the call.",
    f"Like this:\n```json\n{ADD}\n```",
    '{"name": "rm", "arguments": {"path": "/"}}',
    f'[{ADD}, {{"name": "rm", "arguments": {{}}}}]',
    f'{ADD}\n{{"name": "rm", "arguments": {{}}}}',
    f'{{"call": {ADD}}}',
    f'{{"type": "plan", "function": {{"name": "now"}}, "arguments": [{ADD}]}}',
    '{"name": "add"}',
    '{"name": "add", "arguments": [1, 2]}',
    '{"name": "add", "arguments": {"a": 1}, "comment": "x"}',
    '{"name": "add", "arguments": {"a": 1}',
    f"```python\n{ADD}\n```",
    f"````json\n{ADD}\n````",
    "[]",
    "{}",
    "``",
    "```json",
    "```json\n[1, 2]\n```",
    f"[[{ADD}]]",
]


@pytest.mark.parametrize("description", [HERMES, QWEN_CODER, QWEN3], ids=["go", "jinja", "qwen3"])
@pytest.mark.parametrize(("reply", "expected"), CALLS)
def test_a_reply_of_calls_alone_is_calls(
    description: Description, reply: str, expected: list[object]
) -> None:
    assert parsed(description, reply) == expected
    assert parsed(description, *reply) == expected


@pytest.mark.parametrize("description", [HERMES, QWEN_CODER, XML, LFM2], ids=["go", "jinja", "xml", "lfm2"])
@pytest.mark.parametrize("reply", TEXTS)
def test_everything_else_is_content(description: Description, reply: str) -> None:
    assert parsed(description, reply) == [("content", reply)]
    assert parsed(description, *reply) == [("content", reply)]


@pytest.mark.parametrize("description", [BARE, LLAMA], ids=["go", "llama"])
def test_families_without_tags_may_use_a_fence(description: Description) -> None:
    assert parsed(description, f"```json\n{ADD}\n```") == [ADDED]


def test_the_call_may_follow_the_thinking() -> None:
    reply = f"<think>add them</think>\n\n{ADD}"
    assert parsed(THINK_HERMES, *reply) == [("thinking", "add them"), ADDED]


def test_without_tools_all_of_it_is_content() -> None:
    assert parsed(HERMES, ADD, tools=[]) == [("content", ADD)]


@pytest.mark.parametrize(
    ("reply", "decided"),
    [
        ('{"city": "Oslo"}', '{"city"'),
        ("```python\nprint(1)\n```", "```python\n"),
        ("[1, 2, 3]", "[1, 2, 3]"),
        ('{"name": "rm", "arguments": {}} and more', '{"name": "rm", "arguments": {}}'),
        ("plain", "p"),
        ('{"' + "k" * 300, '{"' + "k" * 254),
    ],
)
def test_content_is_emitted_as_soon_as_it_cannot_be_a_call(reply: str, decided: str) -> None:
    parser = StreamParser(HERMES, TOOLS)
    emitted = [parser.feed(character) for character in reply]
    first = next(index for index, events in enumerate(emitted) if events)
    assert reply[: first + 1] == decided
    assert emitted[first] == [Content(decided)]


@given(
    st.lists(
        st.sampled_from(('{"name": "rm", "arguments": ', "{}", "}", "[", "]", ",", "\n", "```", "json", "x"))
    ),
    st.data(),
)
def test_no_text_is_lost(parts: list[str], data: st.DataObject) -> None:
    reply = "".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(reply)), max_size=5))
    pieces = [reply[start:end] for start, end in pairwise([0, *sorted(cuts), len(reply)])]
    assert parsed(HERMES, *pieces) == ([("content", reply)] if reply else [])
