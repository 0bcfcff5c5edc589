from dataclasses import replace
from typing import Any

import pytest

from ollama_tw.output.call_values import declared, typed
from ollama_tw.output.description import KEY, Pair, TaggedArguments

TAGS = TaggedArguments(Pair("<parameter=", ">"), Pair("", "</parameter>"))


def test_malformed_tools_are_skipped() -> None:
    tools: list[dict[str, Any]] = [
        {"type": "function"},
        {"function": {"name": 7}},
        {"function": {"name": ""}},
        {"function": {"name": "a", "parameters": None}},
        {"function": {"name": "b", "parameters": {"properties": {"x": {"type": "string"}}}}},
    ]
    assert declared(tools) == {"a": {}, "b": {"x": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, " 5 ", " 5 "),
        ({"type": ["string", "null"]}, "null", "null"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "5", "5"),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({"type": "integer"}, "\n-5\n", -5),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": ["integer", "null"]}, "None", None),
        ({"type": "boolean"}, "False", False),
        ({"type": "object"}, '{"b": 1, "a": [2]}', {"b": 1, "a": [2]}),
        ({"type": "object"}, "{'b': True, 'a': [None]}", {"b": True, "a": [None]}),
        ({"type": "object"}, "{broken", "{broken"),
        ({"type": "array"}, "[" * 300 + "]" * 300, "[" * 300 + "]" * 300),
        ({"type": "number"}, "1e999", "1e999"),
        ({"type": 5}, "1", 1),
        ({"anyOf": []}, "[1]", [1]),
        (None, "1", "1"),
    ],
)
def test_values_without_quotes_are_converted_by_their_schemas(schema: Any, text: str, value: Any) -> None:
    assert typed(text, schema, TAGS) == value


@pytest.mark.parametrize(
    ("kind", "schema", "value"),
    [("true", {"type": "integer"}, "7"), ("false", {"type": "string"}, 7), ("", {"type": "string"}, "7")],
)
def test_the_type_that_the_model_writes_wins_over_the_schema(kind: str, schema: Any, value: Any) -> None:
    tags = replace(TAGS, types=(("string", "true"), ("number", "false")))
    assert typed("7", schema, tags, kind) == value


def test_values_may_be_tags_within_tags() -> None:
    tags = TaggedArguments(Pair("<", ">"), Pair("", f"</{KEY}>"))
    properties = {"no": {"type": "integer"}, "dishes": {"items": {"type": "string"}}}
    schema = {"type": "object", "properties": properties}
    text = "<name>1</name> <no>-1</no><dishes><item>7</item><item>a & b</item></dishes>"
    assert typed(text, schema, tags) == {"name": "1", "no": -1, "dishes": ["7", "a & b"]}
    assert typed("<a>1", {"type": "object"}, tags) == "<a>1"
    deep = "<a>" * 100 + "1" + "</a>" * 100
    assert typed(deep, {"type": "object"}, tags) == deep


def test_a_value_may_be_character_data() -> None:
    tags = replace(TAGS, cdata=True)
    assert typed("<![CDATA[\n<b>]]>", {"type": "string"}, tags) == "\n<b>"
    assert typed("<![CDATA[<b>]]>", {"type": "string"}, TAGS) == "<![CDATA[<b>]]>"
