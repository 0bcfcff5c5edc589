"""Grammars of tool calls in the layouts of families, in llama.cpp's grammar engine."""

import json
import logging
from functools import cache
from typing import Any

import pytest

from ollama_tw.output.call_grammar import Tool, callable_tools, lazy_calls, required_calls
from ollama_tw.output.description import (
    HOLE,
    KEY,
    CallLayout,
    Description,
    IdPlace,
    Notation,
    Pair,
    Shape,
    TaggedArguments,
)
from ollama_tw.output.known_layouts import BY_NAME, FUNCTIONARY, HERMES
from ollama_tw.templates.reply_description import describe
from tests.grammar.checker import matches
from tests.helpers.reference_data import vectors

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "maximum": 14},
        "units": {"enum": ["metric", "imperial"]},
        "detailed": {"type": "boolean"},
    },
    "required": ["city"],
}
TOOLS = [Tool("weather", WEATHER), Tool("ping", {"type": "object", "properties": {}})]

# For each name of a family: replies that are calls, and replies that are none or break the schema.
REPLIES: dict[str, tuple[list[str], list[str]]] = {
    "qwen3": (
        [
            '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": 3}}\n</tool_call>',
            '<tool_call>{"name":"ping","arguments":{}}</tool_call>',
            (
                '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>\n'
                '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
            ),
        ],
        [
            "It rains.",
            '<tool_call>\n{"name": "other", "arguments": {}}\n</tool_call>',
            '<tool_call>\n{"name": "weather", "arguments": {"days": 3}}\n</tool_call>',
            '<tool_call>\n{"name": "weather", "arguments": {"city": "x", "days": 99}}\n</tool_call>',
            '<tool_call>\n{"name": "weather", "arguments": {"city": "x"}}\n</tool_call> and more',
        ],
    ),
    "qwen3-coder": (
        [
            (
                "<tool_call>\n<function=weather>\n<parameter=city>\na <b> </para\n\nc\n</parameter>\n"
                "<parameter=days>\n3\n</parameter>\n<parameter=units>\nmetric\n</parameter>\n"
                "<parameter=detailed>\nTrue\n</parameter>\n</function>\n</tool_call>"
            ),
            "<tool_call>\n<function=ping>\n</function>\n</tool_call>",
        ],
        [
            "<tool_call>\n<function=weather>\n</function>\n</tool_call>",
            (
                "<tool_call>\n<function=weather>\n<parameter=city>\nx\n</parameter>\n<parameter=days>\nmany\n"
                "</parameter>\n</function>\n</tool_call>"
            ),
            (
                "<tool_call>\n<function=weather>\n<parameter=city>\nx\n</parameter>\n<parameter=units>\nmiles\n"
                "</parameter>\n</function>\n</tool_call>"
            ),
        ],
    ),
    "glm-4.7": (
        [
            (
                "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n<arg_key>days</arg_key>"
                "\n<arg_value>3</arg_value>\n</tool_call>"
            ),
            "<tool_call>ping</tool_call>",
        ],
        ["<tool_call>weather\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"],
    ),
    "deepseek3": (
        [
            (
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>"
                '{"city": "x"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
            )
        ],
        ["<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>", "<｜tool▁calls▁begin｜>weather"],
    ),
    "ministral": (
        ['[TOOL_CALLS]weather[ARGS]{"city": "x"}[TOOL_CALLS]ping[ARGS]{}'],
        ['[TOOL_CALLS]weather[ARGS]{"town": "x"}', '[TOOL_CALLS][{"name": "ping", "arguments": {}}]'],
    ),
    "gemma4": (
        [
            '<|tool_call>call:weather{city:<|"|>a "b", {c}<|"|>,days:3,units:<|"|>metric<|"|>}<tool_call|>',
            "<|tool_call>call:ping{}<tool_call|>",
        ],
        ["<|tool_call>call:weather{city:x}<tool_call|>", "<|tool_call>call:weather{days:3}<tool_call|>"],
    ),
    "lfm2": (
        [
            '<|tool_call_start|>[weather(city="it\'s", days=3, detailed=True)]<|tool_call_end|>',
            "<|tool_call_start|>[weather(city='a \"b\"'), ping()]<|tool_call_end|>",
        ],
        [
            "<|tool_call_start|>[weather(days=3)]<|tool_call_end|>",
            '<|tool_call_start|>[weather(city="x", detailed=true)]<|tool_call_end|>',
        ],
    ),
    "cohere": (
        [
            (
                '<|START_ACTION|>[\n{"tool_call_id": "0", "tool_name": "weather", '
                '"parameters": {"city": "x"}},\n'
                '    {"tool_call_id": "1", "tool_name": "ping", "parameters": {}}\n]<|END_ACTION|>'
            )
        ],
        ['<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "weather"}]<|END_ACTION|>'],
    ),
    "harmony": (
        ['<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "x"}'],
        ["<|channel|>final<|message|>x", "<|channel|>commentary to=functions.other<|message|>{}"],
    ),
    "glimmer": (
        [
            (
                ' to=weather<|message|><atem:function_calls>\n<atem:invoke name="weather">\n'
                '<atem:parameter name="city">x</atem:parameter>\n</atem:invoke>\n</atem:function_calls>'
            )
        ],
        [" to=user<|message|>x"],
    ),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_that_must_call_is_a_call_in_the_layout_of_its_family(name: str) -> None:
    grammar = required_calls(BY_NAME[name], TOOLS)
    right, wrong = REPLIES[name]
    for reply in right:
        assert matches(grammar, reply), reply
    for reply in wrong:
        assert not matches(grammar, reply), reply


@pytest.mark.parametrize("name", REPLIES)
def test_the_same_holds_from_the_beginning_of_a_call_on(name: str) -> None:
    lazy = lazy_calls(BY_NAME[name], TOOLS)
    assert lazy is not None
    right, wrong = REPLIES[name]
    for reply, expected in [(reply, True) for reply in right] + [(reply, False) for reply in wrong]:
        places = [at for trigger in lazy.triggers if (at := reply.find(trigger)) >= 0]
        if places:
            assert matches(lazy.grammar, reply[min(places) :]) is expected, reply
        else:
            assert not expected


def test_thinking_comes_first_where_the_model_thinks() -> None:
    call = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
    optional = required_calls(BY_NAME["qwen3"], TOOLS, opened=False)
    opened = required_calls(BY_NAME["qwen3"], TOOLS, opened=True)
    never = required_calls(BY_NAME["qwen3"], TOOLS, opened=None)
    thought = f"<think>\nI need <tool_call>.\n</think>\n\n{call}"
    assert [matches(grammar, thought) for grammar in (optional, opened, never)] == [True, True, False]
    assert [matches(grammar, call) for grammar in (optional, opened, never)] == [True, False, True]
    lazy = lazy_calls(BY_NAME["qwen3"], TOOLS, opened=True)
    assert lazy is not None
    assert (lazy.after, lazy.opening) == ("</think>", "")
    lazy = lazy_calls(BY_NAME["qwen3"], TOOLS, opened=False)
    assert lazy is not None
    assert (lazy.after, lazy.opening) == ("</think>", "<think>")
    analysis = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    call = "<|channel|>commentary to=functions.ping <|constrain|>json<|message|>{}"
    assert matches(required_calls(BY_NAME["harmony"], TOOLS, opened=False), 2 * analysis + call)


def test_one_call_alone() -> None:
    one = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
    assert matches(required_calls(BY_NAME["qwen3"], TOOLS), f"{one}\n{one}")
    single = required_calls(BY_NAME["qwen3"], TOOLS, parallel=False)
    assert matches(single, one)
    assert not matches(single, f"{one}\n{one}")
    lazy = lazy_calls(BY_NAME["qwen3"], TOOLS, parallel=False)
    assert lazy is not None
    assert not matches(lazy.grammar, f"{one}\n{one}")


def test_a_model_without_a_layout_calls_by_an_object() -> None:
    grammar = required_calls(Description(), TOOLS, parallel=False)
    assert matches(grammar, '{"name": "weather", "arguments": {"city": "x"}}')
    assert lazy_calls(Description(), TOOLS) is None


def test_an_object_that_begins_a_reply_is_known_by_its_name() -> None:
    lazy = lazy_calls(Description(calls=CallLayout()), TOOLS)
    assert lazy is not None
    assert '{"name": "weather"' in lazy.triggers
    assert "{" not in lazy.triggers
    assert matches(lazy.grammar, '{"name": "weather", "arguments": {"city": "x"}}')
    keyed = lazy_calls(Description(calls=CallLayout(shape=Shape.KEYED)), TOOLS)
    assert keyed is not None
    assert matches(keyed.grammar, '{"weather": {"city": "x"}}')


def test_the_type_beside_a_key_decides_about_the_value() -> None:
    tags = TaggedArguments(
        Pair('<p name="', f'" string="{HOLE}">'),
        Pair("", "</p>"),
        types=(("string", "true"), ("number", "false")),
    )
    layout = CallLayout(
        call=Pair("<c>", "</c>"),
        shape=Shape.NAME_FIRST,
        notation=Notation.TAGGED,
        name=Pair("<n>", "</n>"),
        tagged=tags,
    )
    schema = {"properties": {"a": {"type": ["string", "number"]}}, "additionalProperties": False}
    grammar = required_calls(Description(calls=layout), [Tool("f", schema)])
    for kind, value, expected in (
        ("true", "free </ text", True),
        ("false", "3", True),
        ("true", "3", True),
        ("false", "x", False),
    ):
        reply = f'<c><n>f</n><p name="a" string="{kind}">{value}</p></c>'
        assert matches(grammar, reply) is expected, reply


@pytest.mark.parametrize(
    ("place", "reply"),
    [
        (IdPlace.BEFORE_NAME, "<id>a1</id><n>ping</n>{}"),
        (IdPlace.AFTER_NAME, "<n>ping</n><id>a1</id>{}"),
        (IdPlace.AFTER_ARGUMENTS, "<n>ping</n>{}<id>a1</id>"),
        (IdPlace.IN_NAME, "<n>functions.ping:0</n>{}"),
        (IdPlace.NONE, "<n>ping</n>{}"),
    ],
)
def test_ids(place: IdPlace, reply: str) -> None:
    layout = CallLayout(
        call=Pair("<c>", "</c>"),
        shape=Shape.NAME_FIRST,
        name=Pair("<n>", "</n>"),
        id_place=place,
        id=Pair("<id>", "</id>"),
    )
    assert matches(required_calls(Description(calls=layout), TOOLS), f"<c>{reply}</c>")


def test_a_wrapper_around_name_and_arguments() -> None:
    layout = CallLayout(wrapper="function", id_place=IdPlace.FIELD, id_key="id")
    grammar = required_calls(Description(calls=layout), TOOLS)
    for reply in (
        '{"type": "function", "function": {"name": "ping", "arguments": {}}, "id": "c1"}',
        '{"id": 3, "function": {"name": "ping", "arguments": {}}}',
    ):
        assert matches(grammar, reply)


def test_an_argument_that_cannot_be_enforced_is_free_alone(caplog: pytest.LogCaptureFixture) -> None:
    schema = {
        "type": "object",
        "properties": {
            "free": {"type": "string", "pattern": "(?=lookahead)x"},
            "held": {"type": "integer"},
            "shared": {"$ref": "#/$defs/colour"},
        },
        "required": ["free", "held"],
        "$defs": {"colour": {"enum": ["red"]}},
    }
    with caplog.at_level(logging.INFO):
        grammar = required_calls(Description(calls=HERMES), [Tool("f", schema)])
    assert 'schema at #/properties/free: pattern "(?=lookahead)x"' in caplog.text
    assert "properties/held" not in caplog.text

    def reply(**arguments: Any) -> str:
        call = json.dumps({"name": "f", "arguments": arguments})
        return f"<tool_call>\n{call}\n</tool_call>"

    assert matches(grammar, reply(free="anything", held=1, shared="red"))
    assert not matches(grammar, reply(free=[1], held=1))
    assert not matches(grammar, reply(free="x", held="y"))
    assert not matches(grammar, reply(free="x", held=1, shared="blue"))
    assert not matches(grammar, reply(held=1))


@pytest.mark.parametrize("name", ["qwen3", "qwen3-coder", "lfm2", "gemma4"])
def test_a_tool_without_a_schema_takes_any_arguments(name: str) -> None:
    grammar = required_calls(BY_NAME[name], [Tool("f", None)])
    reply = {
        "qwen3": '<tool_call>\n{"name": "f", "arguments": {"a": [1, {"b": null}]}}\n</tool_call>',
        "qwen3-coder": "<tool_call>\n<function=f>\n<parameter=a>\nx\n</parameter>\n</function>\n</tool_call>",
        "lfm2": "<|tool_call_start|>[f(a=[1, {'b': None}], b='x')]<|tool_call_end|>",
        "gemma4": '<|tool_call>call:f{a:[1,{b:null}],c:<|"|>x<|"|>}<tool_call|>',
    }[name]
    assert matches(grammar, reply)


def test_tools_are_those_of_the_request_and_of_the_choice() -> None:
    tools: list[Any] = [
        {"type": "function", "function": {"name": "a", "parameters": {"x": 1}}},
        {"type": "function", "function": {"name": "b"}},
        {"type": "function", "function": {"name": ""}},
        {"type": "function"},
    ]
    assert callable_tools(tools) == [Tool("a", {"x": 1}), Tool("b", None)]
    assert callable_tools(tools, ("b",)) == [Tool("b", None)]


PING = '{"name": "ping", "arguments": {}}'


def test_the_mark_of_the_calls_may_be_missing_where_models_leave_it_out() -> None:
    description = Description(calls=CallLayout(section=Pair("<|python_tag|>"), bare=True))
    grammar = required_calls(description, TOOLS)
    assert matches(grammar, PING)
    assert matches(grammar, f"<|python_tag|>{PING}")
    lazy = lazy_calls(description, TOOLS)
    assert lazy is not None
    assert {"<|python_tag|>", '{"name": "ping"'} <= set(lazy.triggers)
    assert matches(lazy.grammar, PING)


def test_an_array_may_end_the_turn() -> None:
    layout = CallLayout(section=Pair("Action:\n```json\n", "```\n"), separator=",\n", array=True)
    grammar = required_calls(Description(calls=layout), TOOLS)
    for reply in (f"Action:\n```json\n[{PING}]", f"Action:\n```json\n[\n    {PING},\n    {PING}\n]\n```"):
        assert matches(grammar, reply)


def test_an_answer_without_text_may_stand_before_the_calls() -> None:
    description = Description(Pair("<t>", "</t>"), Pair("<r>", "</r>"), HERMES)
    call = f"<tool_call>\n{PING}\n</tool_call>"
    grammar = required_calls(description, TOOLS, opened=True)
    for reply in (f"hm</t><r></r>{call}", f"hm</t>{call}"):
        assert matches(grammar, reply)
    # The prompt has begun the answer.
    assert matches(required_calls(description, TOOLS, opened=None), f"</r>{call}")
    assert not matches(grammar, f"hm</t><r>text</r>{call}")


def test_values_with_tags_of_their_own_are_free() -> None:
    schema = {"properties": {"menu": {"type": "array"}, "days": {"type": "integer"}}, "required": ["menu"]}
    m3 = Description(
        calls=CallLayout(
            call=Pair('<invoke name="', "</invoke>"),
            shape=Shape.NAME_FIRST,
            notation=Notation.TAGGED,
            name=Pair("", '">'),
            tagged=TaggedArguments(Pair("<", ">"), Pair("", f"</{KEY}>")),
        )
    )
    grammar = required_calls(m3, [Tool("f", schema)])
    assert matches(grammar, '<invoke name="f"><menu><item>soup</item></menu><days>3</days></invoke>')
    assert not matches(grammar, '<invoke name="f"><menu></menu><days>x</days></invoke>')


def test_texts_that_are_json_have_quotes() -> None:
    tags = TaggedArguments(Pair("<p=", ">"), Pair("", "</p>"), encoded=True)
    layout = CallLayout(
        call=Pair("<f n=", "</f>"),
        shape=Shape.NAME_FIRST,
        notation=Notation.TAGGED,
        name=Pair("", ">"),
        tagged=tags,
    )
    schema = {"properties": {"a": {"type": "string"}, "b": {"enum": ["x"]}}, "required": ["a", "b"]}
    grammar = required_calls(Description(calls=layout), [Tool("f", schema)])
    assert matches(grammar, '<f n=f><p=a>"y"</p><p=b>"x"</p></f>')
    assert not matches(grammar, '<f n=f><p=a>y</p><p=b>"x"</p></f>')
    assert not matches(grammar, '<f n=f><p=a>"y"</p><p=b>x</p></f>')


def test_a_family_whose_prompt_begins_the_first_call() -> None:
    grammar = required_calls(FUNCTIONARY, TOOLS)
    assert matches(grammar, 'weather\n{"city": "x"}')
    assert matches(grammar, "ping\n{}>>>ping\n{}")


@cache
def recorded() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for vector in vectors("chat_outputs"):
        if vector["kind"] == "well formed" and vector["expect"].get("calls"):
            found.setdefault(vector["case"]["template"], []).append(vector)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "template", sorted({vector["case"]["template"] for vector in vectors("chat_outputs")})
)
def test_the_calls_of_a_real_template_are_what_its_grammars_describe(template: str) -> None:
    source = next(each["source"] for each in vectors("chat_templates") if each["name"] == template)
    description = describe(source)
    for vector in recorded().get(template, []):
        case, output = vector["case"], vector["case"]["output"]
        opened = description.opened(case["prompt_end"])
        if case["think"] is False and not opened:
            opened = None
        tools = callable_tools(case["tools"])
        if not vector["expect"]["content"].strip():
            assert matches(required_calls(description, tools, opened=opened), output), vector["name"]
        lazy = lazy_calls(description, tools, opened=opened)
        if lazy is None:
            continue
        thinks = lazy.after and (not lazy.opening or output.lstrip().startswith(lazy.opening))
        start = output.index(lazy.after) + len(lazy.after) if thinks else 0
        places = [at for trigger in lazy.triggers if (at := output.find(trigger, start)) >= 0]
        if places:
            assert matches(lazy.grammar, output[min(places) :]), vector["name"]
