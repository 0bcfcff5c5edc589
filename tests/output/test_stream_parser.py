import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollama_tw.output.description import CallLayout, Description, IdPlace, Pair, Shape
from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.output.stream_parser import Call, Content, Event, StreamParser, Thinking, new_call_id
from ollama_tw.output.template_tags import from_tags
from tests.helpers.reference_data import vectors

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": properties}},
    }
    for name, properties in (
        ("add", {"a": {"type": "integer"}, "b": {"type": ["integer", "null"]}, "ok": {"type": "boolean"}}),
        ("get_weather", {"city": {"type": "string"}, "days": {"type": "array"}}),
        ("now", {}),
    )
]

HERMES = from_tags("<tool_call>")
MISTRAL = from_tags("[TOOL_CALLS] [")
BARE = from_tags("{")
ARRAY = from_tags("[")
FENCED = from_tags("Action: ```json\n[")
THINK = from_tags(None, "<think>", "</think>")
THINK_HERMES = from_tags("<tool_call>", "<think>", "</think>")
LLAMA = Description(calls=CallLayout(section=Pair("<|python_tag|>"), bare=True))
XML = BY_NAME["qwen3-coder"]
QWEN3 = BY_NAME["qwen3"]
QWEN35 = BY_NAME["qwen3.5"]
GLM = BY_NAME["glm-4.7"]
LFM2 = BY_NAME["lfm2"]
ID_FIRST = Description(
    calls=CallLayout(
        call=Pair("<call>", "<end>"),
        id=Pair("", "<name>"),
        id_place=IdPlace.BEFORE_NAME,
        name=Pair("", "<args>"),
        shape=Shape.NAME_FIRST,
    )
)
ID_ALONE = Description(
    calls=CallLayout(
        id=Pair("<call>", "<name>"),
        id_place=IdPlace.BEFORE_NAME,
        name=Pair("", "<args>"),
        shape=Shape.NAME_FIRST,
    )
)
R1_LLAMA = Description(Pair("<think>", "</think>"), calls=CallLayout())


def parsed(
    description: Description,
    *pieces: str,
    tools: Sequence[dict[str, Any]] | None = TOOLS,
    prompt: str = "",
) -> list[tuple[str, Any]]:
    """Return the events of a reply, adjacent text joined: (kind, text) or ("call", (index, name, ...))."""
    parser = StreamParser(description, tools, lambda: "call_00000000", prompt=prompt)
    events: list[Event] = []
    for piece in pieces:
        events += parser.feed(piece)
    events += parser.finish()
    joined: list[tuple[str, Any]] = []
    for event in events:
        match event:
            case Call(call):
                function = call.function
                ordered = json.dumps(function.arguments)
                joined.append(("call", (function.index, function.name, ordered)))
            case Content(text) | Thinking(text):
                kind = "content" if isinstance(event, Content) else "thinking"
                if joined and joined[-1][0] == kind:
                    joined[-1] = (kind, joined[-1][1] + text)
                else:
                    joined.append((kind, text))
    return joined


def add(index: int, arguments: str = '{"a": 1}') -> tuple[str, Any]:
    return "call", (index, "add", arguments)


# Content and calls


def test_text_is_emitted_at_once_and_a_partial_tag_is_held() -> None:
    parser = StreamParser(HERMES, TOOLS, new_call_id)
    assert parser.feed("Hello <") == [Content("Hello ")]
    assert parser.feed("tool_") == []
    assert parser.feed("box> ok") == [Content("<tool_box> ok")]
    assert parser.finish() == []


def test_white_space_is_held_only_where_a_call_may_follow() -> None:
    for description, tools in ((Description(), TOOLS), (XML, None), (replace(THINK, trim=True), None)):
        parser = StreamParser(description, tools, new_call_id)
        assert [parser.feed(piece) for piece in ("Hello", "\n\n", "you ")] == [
            [Content("Hello")],
            [Content("\n\n")],
            [Content("you ")],
        ]
        assert parser.finish() == []
    parser = StreamParser(XML, TOOLS, new_call_id)
    assert parser.feed("Hello\n") == [Content("Hello")]
    assert parser.feed("you") == [Content("\nyou")]


def test_a_call_is_emitted_as_soon_as_its_object_ends() -> None:
    ids: Iterator[str] = (f"call_{number:08}" for number in count())
    parser = StreamParser(HERMES, TOOLS, lambda: next(ids))
    assert parser.feed('<tool_call>{"name":"add","arguments":{"b":2,"a":1}') == []
    [event] = parser.feed("}")
    assert isinstance(event, Call)
    assert event.call.id == "call_00000000"
    assert (event.call.function.index, event.call.function.name) == (0, "add")
    assert list(event.call.function.arguments.items()) == [("b", 2), ("a", 1)]
    [event] = parser.feed('</tool_call>\n<tool_call>{"name":"now","arguments":{}}</tool_call>')
    assert isinstance(event, Call)
    assert (event.call.id, event.call.function.index) == ("call_00000001", 1)
    assert parser.finish() == []


def test_ids_are_call_and_eight_lower_case_letters_or_digits() -> None:
    made = {new_call_id() for _ in range(50)}
    assert len(made) == 50
    for each in made:
        assert each.startswith("call_")
        assert len(each) == 13
        assert set(each[5:]) <= set("abcdefghijklmnopqrstuvwxyz0123456789")


CALL = '{"name": "add", "arguments": {"a": 1}}'
NOPE = '{"name": "nope", "arguments": {"a": 1}}'


@pytest.mark.parametrize(
    ("description", "reply", "expected"),
    [
        (
            HERMES,
            f"Before.\n<tool_call>\n{CALL}\n</tool_call>\nBetween.\n<tool_call>{CALL}</tool_call> After.",
            [("content", "Before.\n"), add(0), ("content", "\nBetween.\n"), add(1), ("content", " After.")],
        ),
        (HERMES, f"<tool_call>{CALL}</tool_call>\n\n<tool_call>{CALL}</tool_call>\n", [add(0), add(1)]),
        (HERMES, f"<tool_call>\n{CALL}\n{CALL}\n</tool_call>", [add(0), add(1)]),
        (HERMES, f"<tool_call>[{CALL}, {CALL}]</tool_call>!", [add(0), add(1), ("content", "!")]),
        (HERMES, f"<tool_call>{CALL}", [add(0)]),
        (HERMES, f"<tool_call>{CALL}\n<tool_call>{CALL}", [add(0), add(1)]),
        (HERMES, f"<tool_call>{CALL}</tool_", [add(0), ("content", "</tool_")]),
        (HERMES, '<tool_call>{"name": "now"}</tool_call>', [("call", (0, "now", "{}"))]),
        (HERMES, '<tool_call>add\n{"b": 2}</tool_call>', [add(0, '{"b": 2}')]),
        (HERMES, f"<tool_call>add {CALL}</tool_call>", [add(0)]),
        (HERMES, '<tool_call>{"name":"add","parameters":"{\\"a\\": 1}"}</tool_call>', [add(0)]),
        (HERMES, '<tool_call>{"function":{"name":"add","arguments":{"a":1}}}</tool_call>', [add(0)]),
        (HERMES, f'<tool_call>{{"tool_calls": [{CALL}, {CALL}]}}</tool_call>', [add(0), add(1)]),
        (
            HERMES,
            '<tool_call>{"name":"add","arguments":{"a":"}{\\"</tool_call>\n日本 \\ud83d\\ude00 \\ud800"}}',
            [add(0, json.dumps({"a": '}{"</tool_call>\n日本 \N{GRINNING FACE} \N{REPLACEMENT CHARACTER}'}))],
        ),
        (MISTRAL, f"[TOOL_CALLS] [{CALL}, {CALL}] tail", [add(0), add(1), ("content", " tail")]),
        (MISTRAL, f"Hm. [TOOL_CALLS][{CALL}]", [("content", "Hm. "), add(0)]),
        (
            MISTRAL,
            '[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]now[ARGS]{}',
            [add(0), ("call", (1, "now", "{}"))],
        ),
        (BARE, f" {CALL} tail", [("content", " "), add(0), ("content", " tail")]),
        (BARE, f"{CALL}; {CALL}\n{CALL}", [add(0), add(1), add(2)]),
        (BARE, f"{CALL} and then {CALL}", [add(0), ("content", " and then "), add(1)]),
        (BARE, '{"add": {"a": 1}, "now": {}}', [add(0), ("call", (1, "now", "{}"))]),
        (BARE, '{"type":"function","function":{"name":"add","parameters":{"a":1}}}', [add(0)]),
        (ARRAY, f"[{CALL},\n {CALL}]\n", [add(0), add(1)]),
        (FENCED, f"Action: ```json\n[\n    {CALL}\n]```", [add(0)]),
        (LLAMA, f"<|python_tag|>{CALL}", [add(0)]),
        (LLAMA, CALL, [add(0)]),
        (
            XML,
            (
                "Look.<tool_call>\n<function=get_weather>\n<parameter=city>\nNew\nYork & <b>\n</parameter>\n"
                '<parameter=days>\n["x", 1]\n</parameter>\n</function>\n</tool_call>\n<tool_call>'
                "<function=add><parameter=b>null</parameter><parameter=a>\n-1\n</parameter><parameter=ok>True</parameter>"
                "</function></tool_call>"
            ),
            [
                ("content", "Look."),
                ("call", (0, "get_weather", '{"city": "New\\nYork & <b>", "days": ["x", 1]}')),
                add(1, '{"b": null, "a": -1, "ok": true}'),
            ],
        ),
        (XML, "<tool_call><function=now></function>", [("call", (0, "now", "{}"))]),
        (XML, "<tool_call><function=add><parameter=a>1</parameter></tool_call>", [add(0)]),
        (
            XML,
            "<tool_call><function=now></function> and more",
            [("call", (0, "now", "{}")), ("content", "and more")],
        ),
        (
            LFM2,
            "Hm.<|tool_call_start|>[add(b=-2.5, a=None), now()]<|tool_call_end|>\nok",
            [
                ("content", "Hm."),
                add(0, '{"b": -2.5, "a": null}'),
                ("call", (1, "now", "{}")),
                ("content", "ok"),
            ],
        ),
        (
            GLM,
            (
                "<think></think>Hm.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n"
                "<arg_key>days</arg_key><arg_value>[1]</arg_value></tool_call><tool_call>now</tool_call>"
            ),
            [
                ("content", "Hm."),
                ("call", (0, "get_weather", '{"city": "Rome", "days": [1]}')),
                ("call", (1, "now", "{}")),
            ],
        ),
    ],
)
def test_calls_and_the_text_around_them_come_in_order(
    description: Description, reply: str, expected: list[tuple[str, Any]]
) -> None:
    assert parsed(description, reply) == expected
    assert parsed(description, *reply) == expected


@pytest.mark.parametrize(
    ("description", "reply"),
    [
        (HERMES, f"<tool_call>\n{NOPE}\n</tool_call>\n"),
        (HERMES, "<tool_call>broken</tool_call>"),
        (HERMES, "<tool_call>{'name': 'add'}</tool_call>"),
        (HERMES, '<tool_call>{"name":"add","argum'),
        (HERMES, '<tool_call>{"name":"add","arguments":[1]}</tool_call>'),
        (HERMES, '<tool_call>{"name":"add","arguments":{"a":NaN}}</tool_call>'),
        (HERMES, '<tool_call>{"name":"add","arguments":{"a":1e999}}</tool_call>'),
        (HERMES, f'<tool_call>{{"tool_calls": [{CALL}, {NOPE}]}}</tool_call>'),
        (HERMES, '<tool_call>{"name":"add","arguments":' + '{"a":' * 5000),
        (HERMES, '<tool_call>{"name":"add","arguments":"' + '{\\"a\\":' * 500 + "1" + "}" * 500 + '"}'),
        (HERMES, "Use the <tool_call> tag, add nothing, <tool_"),
        (HERMES, "<tool_call>get_wea"),
        (HERMES, "<tool_call>[]</tool_call>"),
        (MISTRAL, "No tools here [1, 2] [TOOL"),
        (MISTRAL, "[TOOL_CALLS] [1, 2]"),
        (BARE, f"Well: {CALL}"),
        (BARE, '{"answer": 42}' + CALL),
        (BARE, "{ x := 1 } " + CALL),
        (BARE, '{"name": "now"}'),
        (ARRAY, f"[1, 2] {CALL}"),
        (LLAMA, '<|python_tag|>brave_search.call(query="{}")'),
        (XML, "<tool_call>broken</tool_call>"),
        (XML, "<tool_call><function=nope></function></tool_call>"),
        (XML, "<tool_call><function=add><parameter=a>1</parameter>"),
        (
            replace(GLM, thinking=None),
            "<tool_call>nope<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>",
        ),
        (replace(GLM, thinking=None), "<tool_call>add<arg_key>a</arg_key></tool_call> \n"),
        (ID_FIRST, 'a <call>words of prose<name>add<args>{"a": 1}<end>.'),
        (ID_ALONE, "a <call>words of prose, and <call><call>"),
    ],
)
def test_invalid_calls_are_content_unchanged(description: Description, reply: str) -> None:
    assert parsed(description, reply) == [("content", reply)]
    assert parsed(description, *reply) == [("content", reply)]


def test_an_id_may_precede_the_name() -> None:
    reply = 'a <call>x-7:1<name>add<args>{"a": 1}<end>'
    assert parsed(ID_FIRST, reply) == [("content", "a"), add(0)]
    assert parsed(ID_FIRST, *reply) == [("content", "a"), add(0)]


def test_calls_beside_an_undeclared_one_are_kept() -> None:
    reply = f"<tool_call>[{CALL}, {NOPE}, {CALL}]</tool_call>"
    assert parsed(HERMES, reply) == [add(0), ("content", f", {NOPE}"), add(1)]
    reply = f"<tool_call>{NOPE}</tool_call> <tool_call>{CALL}</tool_call>"
    assert parsed(HERMES, reply) == [("content", f"<tool_call>{NOPE}</tool_call> "), add(0)]


def test_a_call_after_a_broken_one_is_found() -> None:
    broken = '<tool_call>{"name": "add", '
    assert parsed(HERMES, f"{broken}<tool_call>{CALL}") == [("content", broken), add(0)]


@pytest.mark.parametrize("tools", [None, [], [{"type": "function"}]])
def test_without_tools_the_call_syntax_is_off(tools: list[dict[str, Any]] | None) -> None:
    reply = f"<think>t</think><tool_call>{CALL}</tool_call>"
    assert parsed(THINK_HERMES, reply, tools=tools) == [
        ("thinking", "t"),
        ("content", f"<tool_call>{CALL}</tool_call>"),
    ]


# Thinking


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("  <think>\n abc \n</think>\n\n def ", [("thinking", "abc \n"), ("content", "def ")]),
        ("<think>\n\n</think>\n\nHi", [("content", "Hi")]),
        ("<think>a</think>b<think>c</think>d", [("thinking", "a"), ("content", "b<think>c</think>d")]),
        (" \n Hi <think>a</think>", [("content", " \n Hi <think>a</think>")]),
        (" <thinking>", [("content", " <thinking>")]),
        ("<think>never </thi", [("thinking", "never </thi")]),
        (" <thi", [("content", " <thi")]),
        (" \n", [("content", " \n")]),
        ("", []),
    ],
)
def test_thinking_is_at_the_beginning_between_its_tags(reply: str, expected: list[tuple[str, Any]]) -> None:
    assert parsed(THINK, reply) == expected
    assert parsed(THINK, *reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("\n abc </think>\n def", [("thinking", "abc "), ("content", "def")]),
        ("\n<think>\nabc</think>def", [("thinking", "abc"), ("content", "def")]),
        ("<thi", [("thinking", "<thi")]),
        (" \n", []),
    ],
)
def test_a_prompt_may_have_opened_the_thinking(reply: str, expected: list[tuple[str, Any]]) -> None:
    prompt = "user: hi\nassistant: <think>\n"
    assert parsed(THINK, reply, prompt=prompt) == expected
    assert parsed(THINK, *reply, prompt=prompt) == expected


def test_calls_follow_thinking_and_are_not_parsed_within() -> None:
    reply = f"<think><tool_call>{CALL}</tool_call></think>\n<tool_call>{CALL}</tool_call>"
    assert parsed(THINK_HERMES, reply) == [("thinking", f"<tool_call>{CALL}</tool_call>"), add(0)]
    leading = from_tags("{", "<think>", "</think>")
    assert parsed(leading, f"<think>t</think>\n{CALL}") == [("thinking", "t"), add(0)]


@pytest.mark.parametrize(
    ("description", "reply", "expected"),
    [
        (
            QWEN3,
            f"<think>\n a\n b \n</think>\n\n c \n\n d\n<tool_call>{CALL}</tool_call>\n e ",
            [("thinking", "a\n b"), ("content", "c \n\n d"), add(0), ("content", "e ")],
        ),
        (QWEN3, f"\n<tool_call>{CALL}</tool_call>\n", [add(0)]),
        (QWEN3, "<think> a \n", [("thinking", "a \n")]),
        (QWEN35, "<think>\n\n</think>\n\nHi\n", [("content", "Hi\n")]),
        (
            QWEN3,
            f"<think>I must.\n<tool_call>{CALL}</tool_call>",
            [("thinking", "I must."), add(0)],
        ),
        (
            QWEN3,
            f"<think>a <tool_call> b\n<tool_call>{CALL}</tool_call>\nc</think>d",
            [("thinking", "a <tool_call> b"), add(0), ("thinking", "c"), ("content", "d")],
        ),
        (R1_LLAMA, f"<think>{CALL}</think>{CALL}", [("thinking", CALL), add(0)]),
    ],
)
def test_families_trim_and_may_call_while_they_think(
    description: Description, reply: str, expected: list[tuple[str, Any]]
) -> None:
    assert parsed(description, reply) == expected
    assert parsed(description, *reply) == expected


# Independence of the pieces

DESCRIPTIONS = [HERMES, MISTRAL, BARE, ARRAY, FENCED, LLAMA, XML, THINK, THINK_HERMES]
DESCRIPTIONS += [LFM2, QWEN3, QWEN35, GLM, R1_LLAMA]
WORDS = [
    *("<think>", "</think>", "<thi", "</th", "<tool_call>", "</tool_call>", "<tool", "</tool_c"),
    *("[TOOL_CALLS]", "[TOOL_CALLS] [", "[ARGS]", "<|python_tag|>", "Action: ```json", "```"),
    *("{", "}", "[", "]", ",", ";", '"', "\\", ":", "1", "-", " ", "\n", "add", "get_", "now", "日本", "é<"),
    *(CALL, NOPE, f"[{CALL}, {CALL}]", f"<tool_call>\n{CALL}\n</tool_call>", '{"add": {"a": "}{\\""}}'),
    *('{"name": "now"}', '{"a": [true, {"b": null}]}', '{"name": "add", "arguments": {"a": "<tool_call>"}}'),
    *("<function=add>", "<parameter=a>", "</parameter>", "</function>"),
    *("<|tool_call_start|>", "<|tool_call_end|>", "[add(a=1)]", "now()"),
    *("<arg_key>a</arg_key>", "<arg_value>1", "</arg_value>", "<tool_call>now</tool_call>"),
]
replies = st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=12).map("".join)


@st.composite
def cut_replies(draw: st.DrawFn) -> tuple[str, list[str]]:
    reply = draw(replies)
    cuts = sorted(draw(st.sets(st.integers(0, len(reply)), max_size=8)))
    edges = [0, *cuts, len(reply)]
    return reply, [reply[start:end] for start, end in pairwise(edges)]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DESCRIPTIONS), cut_replies())
def test_pieces_do_not_change_the_result(description: Description, cut: tuple[str, list[str]]) -> None:
    reply, pieces = cut
    whole = parsed(description, reply)
    assert parsed(description, *pieces) == whole
    assert parsed(description, *reply) == whole


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([each for each in DESCRIPTIONS if each.thinking is None]), replies)
def test_no_text_is_lost_where_no_tool_has_the_name(description: Description, reply: str) -> None:
    other = [{"type": "function", "function": {"name": "unheard_of"}}]
    assert parsed(description, *reply, tools=other) == ([("content", reply)] if reply else [])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(st.text(), json_values, max_size=4)
# Commas and semicolons between two calls are syntax.
prose = st.text(st.characters(exclude_characters="<", exclude_categories=["Cs"]), max_size=20).filter(
    lambda text: text.strip() == text and (not text or any(one not in ",;" for one in "".join(text.split())))
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(prose, st.lists(arguments, min_size=1, max_size=3), st.booleans()), max_size=3),
    prose,
    st.integers(1, 9),
)
@example([("", [{}], True), (", and", [{}], True)], ",", 3)
def test_generated_calls_are_parsed_with_the_text_between(
    blocks: list[tuple[str, list[dict[str, Any]], bool]], tail: str, step: int
) -> None:
    reply, expected, index = "", [], 0
    for text, calls, ascii_only in blocks:
        objects = [json.dumps({"name": "add", "arguments": each}, ensure_ascii=ascii_only) for each in calls]
        reply += f"{text}<tool_call>\n[{', '.join(objects)}]\n</tool_call>"
        if text:
            expected.append(("content", text))
        for each in calls:
            expected.append(add(index, json.dumps(each)))
            index += 1
    reply += tail
    if tail:
        expected.append(("content", tail))
    assert parsed(HERMES, *(reply[at : at + step] for at in range(0, len(reply), step))) == expected


# The vectors of Ollama's own parsers

LOSSES = {
    # Ollama drops a call to a tool that was not declared; here its text is content.
    "tool_stream/hermes_tools/3": [
        ("content", '<tool_call>\n{"name": "nope", "arguments": {}}\n</tool_call>')
    ],
    # Ollama drops the text after the call, or the call if both are in one piece.
    "tool_stream/bare_json_tools/4": [
        ("content", "  "),
        ("call", (0, "add", '{"a": 1, "b": 2}')),
        ("content", " tail"),
    ],
    # Ollama drops the text held back at the end of a reply.
    "thinking_stream/3": [("content", "<thi")],
}


def check(case: dict[str, Any], kind: str) -> None:
    given_, expect = case["case"], case["expect"]
    description = from_tags(expect.get("tag"), given_.get("open"), given_.get("close"))
    got = parsed(description, *given_["pieces"], tools=given_.get("tools"))
    known = LOSSES.get(kind + "/" + case["name"].rpartition("/")[0])
    if known is not None:
        assert got == known
        return
    assert parts_of(got) == parts_in_ollama(expect["events"])


def parts_of(got: list[tuple[str, Any]]) -> tuple[str, str, list[dict[str, Any]]]:
    """Return the content, the thinking and the calls of events."""
    texts = {kind: "".join(value for what, value in got if what == kind) for kind in ("content", "thinking")}
    calls = [value for what, value in got if what == "call"]
    return (
        texts["content"],
        texts["thinking"],
        [{"index": index, "name": name, "arguments": json.loads(text)} for index, name, text in calls],
    )


def parts_in_ollama(events: list[dict[str, Any]]) -> tuple[str, str, list[dict[str, Any]]]:
    return (
        "".join(event.get("content", "") for event in events),
        "".join(event.get("thinking", "") for event in events),
        [call["function"] for event in events for call in event.get("calls", [])],
    )


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        pytest.param(kind, case, id=f"{kind}/{case['name']}")
        for kind in ("tool_stream", "thinking_stream")
        for case in vectors(kind)
    ],
)
def test_agrees_with_ollama_unless_ollama_loses_text(kind: str, case: dict[str, Any]) -> None:
    check(case, kind)
