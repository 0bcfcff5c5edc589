"""Calls that a reply must have: their grammar and their parsing, for models with and without a layout."""

from typing import Any

from ollama_tw.output.call_grammar import call_grammar, lazy_call_grammar
from ollama_tw.output.description import CallLayout, Description
from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.output.stream_parser import Call, StreamParser
from ollama_tw.output.tool_choice import ToolChoice, with_layout
from tests.grammar.checker import matches

PARAMETERS = {
    "type": "object",
    "properties": {"x": {"$ref": "#/$defs/X"}, "self": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["x"],
    "$defs": {"X": {"enum": ["one", "two"]}},
}


def tool(name: str, parameters: object = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("a"), tool("b", PARAMETERS)]
B = ToolChoice(("b",), parallel=False)


def test_a_model_without_a_layout_calls_by_an_object() -> None:
    description = with_layout(Description(), B)
    assert description.calls == CallLayout()
    grammar = call_grammar(description, TOOLS, B, None)
    reply = '{"name": "b", "arguments": {"x": "one", "self": {"x": "two"}}}'
    assert matches(grammar, reply)
    assert not matches(grammar, '{"name": "a", "arguments": {}}')
    parser = StreamParser(description, TOOLS)
    events = parser.feed(reply[:20]) + parser.feed(reply[20:]) + parser.finish()
    [call] = [event.call for event in events if isinstance(event, Call)]
    assert (call.function.name, call.function.arguments) == ("b", {"x": "one", "self": {"x": "two"}})


def test_a_layout_is_kept_and_nothing_changes_without_a_required_call() -> None:
    for description in (BY_NAME["qwen3"], BY_NAME["harmony"]):
        assert with_layout(description, B) is description
    assert with_layout(Description(), ToolChoice()) == Description()


def test_references_of_a_tool_are_those_of_its_own_schema() -> None:
    lazy = lazy_call_grammar(BY_NAME["qwen3"], TOOLS, ToolChoice(), None)
    assert lazy is not None
    for value, expected in (("two", True), ("three", False)):
        reply = f'<tool_call>\n{{"name": "b", "arguments": {{"x": "{value}", "self": null}}}}\n</tool_call>'
        assert matches(lazy.grammar, reply) is expected


def test_no_function_among_the_tools_no_grammar() -> None:
    assert lazy_call_grammar(BY_NAME["qwen3"], [{"type": "web_search"}], ToolChoice(), None) is None
