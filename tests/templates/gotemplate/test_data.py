from types import SimpleNamespace
from typing import Any

import pytest

from ollama_tw.templates.gotemplate import TemplateError
from tests.templates.gotemplate.rendering import render

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "description": "a <b>",
            "strict": True,
            "parameters": {
                "type": "object",
                "required": ["z"],
                "$defs": {"y": 1, "x": 2},
                "properties": {
                    "z": {"type": "string", "enum": ["b", 1], "default": "gone"},
                    "n": {"type": ["integer", "null"], "description": "D"},
                    "o": {"type": "object", "properties": {"y": {"type": "array"}, "b": {}}},
                    "u": {"anyOf": [{"type": "string"}, {"type": "number"}]},
                    "e": {},
                },
            },
        },
    },
    {"type": "function", "function": {"name": "g"}},
]
FUNCTION = (
    '{"name":"f","description":"a \\u003cb\\u003e","parameters":{"type":"object","$defs":{"x":2,"y":1},'
    '"required":["z"],"properties":{"e":{},"n":{"type":["integer","null"],"description":"D"},'
    '"o":{"type":"object","properties":{"y":{"type":"array"},"b":{}}},'
    '"u":{"anyOf":[{"type":"string"},{"type":"number"}]},"z":{"type":"string","enum":["b",1]}}}}'
)
SECOND = '{"name":"g","description":"","parameters":{"type":"","properties":null}}'


def test_tools_print_as_json_in_the_order_of_the_api() -> None:
    expected = f'[{{"type":"function","function":{FUNCTION}}},{{"type":"function","function":{SECOND}}}]'
    assert render("{{ .Tools }}", tools=TOOLS) == expected
    assert render("{{ json .Tools }}", tools=TOOLS) == expected


def test_a_function_and_its_parameters_print_as_json_by_themselves() -> None:
    assert render("{{ range .Tools }}{{ .Function }}{{ end }}", tools=TOOLS) == FUNCTION + SECOND
    assert render("{{ range .Tools }}{{ .Function.Parameters }}{{ end }}", tools=TOOLS[1:]) == (
        '{"type":"","properties":null}'
    )


def test_parameters_can_be_iterated_over() -> None:
    source = (
        "{{ range .Tools }}{{ range $k, $v := .Function.Parameters.Properties }}"
        "{{ $k }}:{{ $v.Type }}:{{ $v.Description }}:{{ $v.Enum }}:{{ toTypeScriptType $v }};"
        "{{ end }}{{ end }}"
    )
    assert render(source, tools=TOOLS) == (
        "e:::[]:any;n:[integer null]:D:[]:number | null;o:object::[]:Record<string, any>;"
        "u:::[]:string | number;z:string::[b 1]:string;"
    )


def test_no_tools_are_nil_and_an_empty_list_is_a_list() -> None:
    assert render("{{ .Tools }}{{ if .Tools }}x{{ end }}") == "null"
    assert render("{{ .Tools }}{{ if .Tools }}x{{ end }}", tools=[]) == "[]"


def test_arguments_of_a_call_print_as_json_in_the_order_of_the_model() -> None:
    call = {
        "id": "c1",
        "function": {"index": 2, "name": "f", "arguments": {"z": 1000000, "a": {"q": [1, 2.5, "<", None]}}},
    }
    messages = [{"role": "assistant", "tool_calls": [call, {"function": {"name": "g"}}]}]
    source = (
        "{{ range .Messages }}{{ range .ToolCalls }}{{ .ID }}|{{ .Function.Index }}|{{ .Function.Name }}|"
        "{{ .Function.Arguments }}|{{ .Function.Arguments.z }};{{ end }}{{ end }}"
    )
    assert render(source, messages) == (
        'c1|2|f|{"z":1000000,"a":{"q":[1,2.5,"\\u003c",null]}}|1000000;|0|g|{}|<no value>;'
    )


def test_arguments_of_a_call_are_as_the_model_wrote_them() -> None:
    arguments = {"z": 2**60 + 1, "a": {"y": 1, "b": [12345678901234567890]}}
    call = {"function": {"name": "f", "arguments": arguments}}
    source = (
        "{{ range .Messages }}{{ range .ToolCalls }}"
        "{{ range $k, $v := .Function.Arguments }}{{ $k }} {{ $v }};{{ end }}{{ end }}{{ end }}"
    )
    assert render(source, [{"role": "assistant", "tool_calls": [call]}]) == (
        "z 1152921504606846977;a map[y:1 b:[12345678901234567890]];"
    )
    source = "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}{{ end }}"
    assert render(source, [{"role": "assistant", "tool_calls": [call]}]) == (
        '{"z":1152921504606846977,"a":{"y":1,"b":[12345678901234567890]}}'
    )


def test_messages_print_as_go_structs() -> None:
    messages = [{"role": "tool", "content": "7", "tool_name": "f", "tool_call_id": "c1", "thinking": "T"}]
    assert render("{{ range .Messages }}{{ . }}{{ json . }}{{ end }}", messages) == (
        '{tool 7 T [] [] f c1}{"Role":"tool","Content":"7","Thinking":"T","Images":null,"ToolCalls":null,'
        '"ToolName":"f","ToolCallID":"c1"}'
    )


def test_objects_with_attributes_render_like_mappings() -> None:
    call = SimpleNamespace(id="c", function=SimpleNamespace(index=0, name="f", arguments={"a": 1}))
    message = SimpleNamespace(
        role="assistant",
        content="x",
        thinking="",
        images=None,
        tool_calls=[call],
        tool_name="",
        tool_call_id="",
    )
    source = (
        "{{ range .Messages }}{{ .Content }}{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}{{ end }}"
    )
    assert render(source, [message]) == 'x{"a":1}'


def test_null_and_absent_fields_are_empty() -> None:
    messages = [{"role": "user", "content": None, "thinking": None, "tool_calls": None}]
    assert (
        render("{{ range .Messages }}[{{ .Content }}{{ .Thinking }}{{ len .ToolCalls }}]{{ end }}", messages)
        == "[0]"
    )


@pytest.mark.parametrize("field", [".Nope", ".content", ".Function"])
def test_an_unknown_field_of_a_message_is_an_error(field: str) -> None:
    with pytest.raises(TemplateError, match=f"can't evaluate field {field[1:]} in type .*templateMessage"):
        render(f"{{{{ range .Messages }}}}{{{{ {field} }}}}{{{{ end }}}}")


def test_deeply_nested_data_is_a_clear_error() -> None:
    arguments: Any = {}
    for _ in range(100_000):
        arguments = {"a": arguments}
    messages = [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]
    with pytest.raises(TemplateError, match="messages or tools nested too deeply"):
        render("", messages)
