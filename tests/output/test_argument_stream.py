"""Arguments of tool calls in parts: what is streamed, and what becomes of calls that break off."""

import json
from typing import Any

import pytest
from hypothesis import given, settings

from ollama_tw.output.description import CallLayout, Description
from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.output.stream_parser import Call, CallPart, Content, Event, StreamParser
from tests.output.test_known_layouts import TOOLS, chinese, parts, replies

HERMES = BY_NAME["qwen3"]


def streamed(description: Description, reply: str, size: int = 1) -> list[Event]:
    parser = StreamParser(description, TOOLS, parts=True)
    pieces = [reply[at : at + size] for at in range(0, len(reply), size)]
    return [event for piece in pieces for event in parser.feed(piece)] + parser.finish()


def begun(events: list[Event]) -> dict[str, tuple[int, str, str]]:
    """Return index, name and arguments of the calls that were streamed, by their ids."""
    found: dict[str, tuple[int, str, str]] = {}
    for event in events:
        if isinstance(event, CallPart):
            index, name, text = found.get(event.id, (event.index, event.name, ""))
            assert (index, name) == (event.index, event.name)
            found[event.id] = index, name, text + event.text
    return found


def whole(events: list[Event]) -> dict[str, tuple[int, str, Any]]:
    calls = [event.call for event in events if isinstance(event, Call)]
    return {call.id: (call.function.index, call.function.name, call.function.arguments) for call in calls}


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Content))


ARGUMENTS = '{"a": "Łódź {\\n\\"}", "b": [1, {"c": null}]}'
LAYOUTS = {
    "object": (HERMES, f'<tool_call>\n{{"name": "add", "arguments": {ARGUMENTS}}}\n</tool_call>'),
    "with an id": (
        BY_NAME["cohere"],
        f'<|START_ACTION|>[{{"tool_call_id": "0", "tool_name": "add", "parameters": {ARGUMENTS}}}]',
    ),
    "name first": (BY_NAME["ministral"], f"[TOOL_CALLS]add[ARGS]{ARGUMENTS}"),
    "in a header": (
        BY_NAME["harmony"],
        "<|channel|>commentary to=functions.add <|constrain|>json<|message|>" + ARGUMENTS + "<|call|>",
    ),
    "unmarked": (
        Description(calls=CallLayout(arguments_key="parameters")),
        f'{{"name": "add", "parameters": {ARGUMENTS}}}',
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arguments_come_while_they_are_written(layout: str) -> None:
    description, reply = LAYOUTS[layout]
    parser = StreamParser(description, TOOLS, parts=True)
    half = reply.index("Łódź")
    early = [event for character in reply[:half] for event in parser.feed(character)]
    assert [(name, text) for _, name, text in begun(early).values()] == [("add", '{"a": "')]
    events = early + [event for character in reply[half:] for event in parser.feed(character)]
    events += parser.finish()
    assert [(name, json.loads(text)) for _, name, text in begun(events).values()] == [
        ("add", json.loads(ARGUMENTS))
    ]
    assert {key: (index, name) for key, (index, name, _) in begun(events).items()} == {
        key: (index, name) for key, (index, name, _) in whole(events).items()
    }
    assert text(events) == ""


def test_each_call_of_a_reply_has_an_id_and_an_index_of_its_own() -> None:
    one = '<tool_call>{"name": "add", "arguments": {"a": "1"}}</tool_call>'
    events = streamed(HERMES, f"{one}\n{one}")
    assert [index for index, _, _ in begun(events).values()] == [0, 1]
    assert list(begun(events)) == list(whole(events))


def test_a_line_break_in_a_text_is_escaped() -> None:
    events = streamed(HERMES, '<tool_call>{"name": "add", "arguments": {\n"a": "1\n2\t"}}</tool_call>')
    ((_, _, arguments),) = begun(events).values()
    assert json.loads(arguments) == {"a": "1\n2\t"}


@pytest.mark.parametrize(
    "reply",
    [
        '<tool_call>{"arguments": {"a": "1"}, "name": "add"}</tool_call>',
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": \\"1\\"}"}</tool_call>',
        '<tool_call>{"type": "function", "function": {"name": "add", "arguments": {"a": "1"}}}</tool_call>',
        '{"name": "add", "arguments": {"a": "1"}}',
    ],
    ids=["name last", "arguments as text", "in an object", "without marks"],
)
def test_other_calls_are_given_as_a_whole(reply: str) -> None:
    events = streamed(HERMES, reply)
    assert [(name, arguments) for _, name, arguments in whole(events).values()] == [("add", {"a": "1"})]
    assert begun(events) == {}


@pytest.mark.parametrize("cut", ['{"na', '{"name": "add"', '{"name": "add", "argum'])
def test_a_call_without_the_beginning_of_its_arguments_is_text(cut: str) -> None:
    events = streamed(HERMES, f"<tool_call>{cut}")
    assert begun(events) == {}
    assert text(events) == f"<tool_call>{cut}"


def test_a_call_of_another_tool_is_text() -> None:
    reply = '<tool_call>{"name": "other", "arguments": {"a": "1"}}</tool_call>'
    events = streamed(HERMES, reply)
    assert begun(events) == {}
    assert text(events) == reply


@pytest.mark.parametrize(
    ("broken", "arguments", "rest"),
    [
        ('{"a": "1', '{"a": "1', ""),
        ('{"a": "1", "b" 2}}</tool_call> Sorry.', '{"a": "1", "b" ', "2}}</tool_call> Sorry."),
        ('{"a": "1"} ]</tool_call>', '{"a": "1"}', "]</tool_call>"),
    ],
    ids=["cut", "no JSON", "no JSON after the arguments"],
)
def test_a_call_that_breaks_off_is_no_call_and_what_follows_is_text(
    broken: str, arguments: str, rest: str
) -> None:
    events = streamed(HERMES, f'<tool_call>{{"name": "add", "arguments": {broken}')
    assert [text for _, _, text in begun(events).values()] == [arguments]
    assert whole(events) == {}
    assert text(events).strip() == rest


def test_a_call_after_one_that_broke_off_has_the_next_index() -> None:
    events = streamed(
        HERMES,
        '<tool_call>{"name": "add", "arguments": {"a" "1"}}</tool_call>'
        '<tool_call>{"name": "add", "arguments": {"a": "2"}}</tool_call>',
    )
    assert [index for index, _, _ in begun(events).values()] == [0, 1]
    assert list(whole(events).values()) == [(1, "add", {"a": "2"})]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(replies())
def test_parts_neither_lose_nor_double_text_whatever_the_pieces(drawn: tuple[str, str, list[str]]) -> None:
    name, reply, pieces = drawn
    parser = StreamParser(BY_NAME[name], TOOLS, parts=True)
    events = [event for piece in pieces for event in parser.feed(piece)] + parser.finish()
    assert parts(streamed(BY_NAME[name], reply)) == parts(events)
    calls = whole(events)
    arguments = begun(events)
    for key, (index, tool, text) in arguments.items():
        if key in calls:
            assert (index, tool) == calls[key][:2]
            assert json.loads(text) == calls[key][2]
    unstreamed = [
        json.dumps(call[2], ensure_ascii=False) for key, call in calls.items() if key not in arguments
    ]
    texts = [event.text for event in events if not isinstance(event, Call)]
    said = chinese("".join(texts + unstreamed))
    assert len(set(said)) == len(said)
    if not calls:
        assert said == chinese(reply)
