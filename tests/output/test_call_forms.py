from typing import Any

import pytest

from ollama_tw.output.call_forms import declared, read_body
from ollama_tw.output.model_syntax import Form


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
        ({"type": "string"}, "\n 5 \n", " 5 "),
        ({"type": ["string", "null"]}, "null", "null"),
        ({"type": "integer"}, "\n-5\n", -5),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": "boolean"}, "False", False),
        ({"type": "object"}, '{"b": 1, "a": [2]}', {"b": 1, "a": [2]}),
        ({"type": "object"}, "{broken", "{broken"),
        ({"type": "array"}, "[" * 300 + "]" * 300, "[" * 300 + "]" * 300),
        ({"type": "number"}, "1e999", "1e999"),
        ({"type": 5}, "1", 1),
        ({"anyOf": []}, "[1]", [1]),
        (None, "1", "1"),
    ],
)
def test_values_without_quotes_are_converted_by_their_schemas(schema: Any, text: str, value: Any) -> None:
    tools = {"f": {"x": schema} if schema is not None else {}}
    xml = f"<function=f><parameter=x>{text}</parameter></function>"
    assert read_body(xml, Form.XML, tools) == [("f", {"x": value})]
    pairs = f"f<arg_key>x</arg_key><arg_value>{text}</arg_value>"
    assert read_body(pairs, Form.ARG_KEYS, tools) == [("f", {"x": value})]


def test_a_parameter_may_lack_its_closing_tag() -> None:
    body = "<function=f><parameter=x>1<parameter=y>2</function>"
    assert read_body(body, Form.XML, {"f": {}}) == [("f", {"x": "1", "y": "2"})]
