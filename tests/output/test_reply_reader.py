"""The text that waits for a decision is short, so that the cost of a reply does not depend on its pieces."""

import pytest

from ollama_tw.output.call_values import declared
from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.output.reply_reader import ReplyReader
from ollama_tw.output.source import Source
from ollama_tw.output.turn_reader import TurnReader

TOOLS = declared([{"function": {"name": "add", "parameters": {"properties": {"a": {"type": "string"}}}}}])
LONG = "x < y\n" * 2_000
LONGEST_WAIT = 600
"""A header of a turn has at most 512 characters."""


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("qwen3", "<think>" + LONG),
        ("qwen3", LONG),
        ("qwen3", " " * 10_000),
        ("qwen3", "<tool_call>" + "\n" * 10_000),
        ("qwen3", '<tool_call>{"name": "add", "arguments": {"a": "' + LONG),
        ("qwen3", "<tool_call>" * 1_000),
        ("qwen3-coder", "<tool_call><function=add><parameter=a>" + LONG),
        ("qwen3-coder", "<tool_call><function=add><parameter=" + LONG),
        ("glm-4.7", "<tool_call>add" + "<arg_key>a</arg_key><arg_value>1</arg_value>" * 300),
        ("lfm2", "<|tool_call_start|>[add(a='" + LONG),
        ("gemma4", '<|tool_call>call:add{a:<|"|>' + LONG),
        ("cohere", "<|START_TEXT|>" + LONG + "<|END_TEXT|>" + LONG),
        ("harmony", LONG),
        ("harmony", "<|channel|>analysis<|message|>" + LONG),
        ("harmony", "<|channel|>commentary to=functions.add<|message|>" + '{"a": "' + LONG),
        ("glimmer", " to=add<|message|><atem:function_calls>" + LONG),
    ],
)
def test_little_text_waits_whatever_the_pieces(name: str, reply: str) -> None:
    description, source, texts = BY_NAME[name], Source(), list[str]()

    def drop(*_: object) -> None:
        pass

    reader: ReplyReader | TurnReader
    if description.turns is not None:
        reader = TurnReader(description, description.turns, TOOLS, source, texts.append, texts.append, drop)
    else:
        reader = ReplyReader(description, TOOLS, source, texts.append, texts.append, drop)
    steps = reader.run()
    longest = 0
    for character in reply:
        source.add(character)
        next(steps)
        longest = max(longest, len(source.text) - source.position)
    assert longest <= LONGEST_WAIT
    source.ended = True
    next(steps, None)
    assert not source.rest
