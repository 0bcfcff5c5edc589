"""Replies to real chat templates, read by the descriptions that are derived from them."""

import random
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.output.description import Description
from ollama_tw.output.stream_parser import Call, Content, StreamParser, Thinking
from ollama_tw.templates.reply_description import describe
from tests.helpers.reference_data import vectors


@cache
def sources() -> dict[str, str]:
    return {each["name"]: each["source"] for each in vectors("chat_templates")}


def cuts(text: str) -> Iterator[list[str]]:
    yield [text]
    yield list(text)
    chance, pieces, at = random.Random(text), [], 0
    while at < len(text):
        size = chance.randint(1, 9)
        pieces.append(text[at : at + size])
        at += size
    yield pieces


def read(
    description: Description, tools: list[dict[str, Any]], prompt: str, pieces: list[str]
) -> tuple[str, str, list[tuple[str, Any]]]:
    """Return the content, the thinking, and the names and arguments of the calls of a reply."""
    parser = StreamParser(description, tools, prompt=prompt)
    events = [event for piece in pieces for event in parser.feed(piece)] + parser.finish()
    return (
        "".join(event.text for event in events if isinstance(event, Content)),
        "".join(event.text for event in events if isinstance(event, Thinking)),
        [
            (event.call.function.name, plain(event.call.function.arguments))
            for event in events
            if isinstance(event, Call)
        ],
    )


def plain(value: Any) -> Any:
    """Return ``value`` for comparisons in which 3 and 3.0 are equal, True and 1 are not."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return ("bool", value) if isinstance(value, bool) else value


def right(expect: dict[str, Any], got: tuple[str, str, list[tuple[str, Any]]]) -> bool:
    content, thinking, calls = got
    if "keeps" in expect:  # a faulty reply: no text is lost, and no call is made of it
        return not calls and all(part in content + thinking for part in expect["keeps"])
    return any(
        (content.strip(), thinking.strip()) == (want["content"].strip(), want["thinking"].strip())
        and calls == [(call["name"], plain(call["arguments"])) for call in want["calls"]]
        for want in (expect, *expect.get("also", ()))
    )


@cache
def replies() -> dict[str, list[dict[str, Any]]]:
    cases = vectors("chat_outputs")
    return {name: list(group) for name, group in groupby(cases, lambda case: case["case"]["template"])}


@pytest.mark.slow
@pytest.mark.parametrize("template", sorted({case["case"]["template"] for case in vectors("chat_outputs")}))
def test_replies_to_a_real_template_are_read(template: str) -> None:
    description = describe(sources()[template])
    for vector in replies()[template]:
        case = vector["case"]
        results = [
            read(description, case["tools"], case["prompt_end"], pieces) for pieces in cuts(case["output"])
        ]
        assert right(vector["expect"], results[0]), (vector["name"], results[0])
        assert all(result == results[0] for result in results), vector["name"]


@pytest.mark.parametrize("vector", vectors("capabilities"), ids=lambda vector: vector["template"])
def test_thinking_and_calls_of_a_real_template_are_found(vector: dict[str, Any]) -> None:
    description = describe(sources()[vector["template"]])
    for name, found in (("tools", description.calls), ("thinking", description.thinking)):
        if vector["expect"][name] is not None:
            assert (found is not None) == vector["expect"][name], name


# Templates of our own


def calls(text: str) -> str:
    """Return a template that writes ``text`` for its model's calls; NAME, ID and ARGUMENTS stand in it."""
    text = text.replace("NAME", "{{ c.function.name }}").replace("ID", "{{ c.id }}")
    text = text.replace("ARGUMENTS", "{{ c.function.arguments | tojson }}")
    return (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
        "{% for c in m.tool_calls or [] %}" + text + "{% endfor %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}{% if tools %}{% endif %}"
    )


ARGUMENTS = '{"city": "Rome"}'
WEATHER = [{"function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}}]


@pytest.mark.parametrize(
    "written",
    [
        "<call>NAME|ARGUMENTS</call>",
        "<c id=ID>NAME: ARGUMENTS</c>",
        "[CALL]NAME[WITH]ARGUMENTS",
        "[CALL]NAME[FOR]ID[WITH]ARGUMENTS",
        '<<{"do": "NAME", "with": ARGUMENTS}>>',
        '<run>{"NAME": ARGUMENTS}</run>',
        (
            "<f n=NAME>{% for k in c.function.arguments %}<k>{{ k }}</k>"
            "<v>{{ c.function.arguments[k] }}</v>{% endfor %}</f>"
        ),
    ],
)
def test_calls_come_back_as_the_template_writes_them(written: str) -> None:
    description = describe(calls(written))
    reply = written.replace("ID", "a1").replace("NAME", "weather").replace("ARGUMENTS", ARGUMENTS)
    if "{% for" in reply:
        reply = "<f n=weather><k>city</k><v>Rome</v></f>"
    want = [("weather", {"city": "Rome"})]
    assert read(description, WEATHER, "<|assistant|>", [f"I ask. {reply}"]) == ("I ask.", "", want)
    assert read(description, WEATHER, "<|assistant|>", list(reply + reply)) == ("", "", want + want)
    other = reply.replace("weather", "other")
    assert read(description, WEATHER, "<|assistant|>", list(other)) == (other, "", [])


def test_values_that_are_all_json_come_back_without_their_quotes() -> None:
    pairs = "{% for k, v in c.function.arguments.items() %}<p={{ k }}>{{ v | tojson }}</p>{% endfor %}"
    description = describe(calls(f"<f n=NAME>{pairs}</f>"))
    types = {"city": "string", "day": "string", "days": "integer"}
    properties = {key: {"type": kind} for key, kind in types.items()}
    tools = [{"function": {"name": "weather", "parameters": {"properties": properties}}}]
    reply = r'<f n=weather><p=city>"\"R\"\n"</p><p=day>3</p><p=days>4</p></f>'
    want = [("weather", {"city": '"R"\n', "day": "3", "days": 4})]
    assert read(description, tools, "<|assistant|>", list(reply)) == ("", "", want)
    plain = "<f n=weather><p=city>Rome</p></f>"
    assert read(description, tools, "<|assistant|>", [plain]) == ("", "", [("weather", {"city": "Rome"})])


def test_a_template_that_refuses_calls_without_content_has_a_layout() -> None:
    source = "{% for m in messages %}{% if not m.content %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
    description = describe(source + calls("<run>NAME(ARGUMENTS)</run>"))
    reply = '<run>weather({"city": "Rome"})</run>'
    want = [("weather", {"city": "Rome"})]
    assert read(description, WEATHER, "<|assistant|>", [reply]) == ("", "", want)


def test_a_template_that_refuses_everything_has_the_marks_of_its_source() -> None:
    description = describe("{{ raise_exception('no') }}{# tools <tool_call> </think> #}")
    reply = '<think>a</think>b<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
    assert read(description, WEATHER, "", [reply]) == ("b", "a", [("weather", {"city": "Rome"})])


@pytest.mark.parametrize(
    "source", ["", "{% for", "{{ messages }}", "{% for i in range(10 ** 9) %}{{ i }}{% endfor %}"]
)
def test_no_template_is_an_error(source: str) -> None:
    assert read(describe(source), WEATHER, "", ["<think>a"]) == ("<think>a", "", [])


def test_calls_whose_keys_and_values_no_mark_separates_stay_text() -> None:
    pairs = "{% for k in c.function.arguments %}<k>{{ k }} {{ c.function.arguments[k] }}</k>{% endfor %}"
    description = describe(calls(f"<f n=NAME>{pairs}</f>"))
    reply = "<f n=weather><k>city Rome</k></f>"
    assert read(description, WEATHER, "<|assistant|>", list(reply)) == (reply, "", [])


MARKS = ["<a>", "</a>", "[B]", "<|c|>", "functions.", "```json\n", ": ", " ", "\n", "{", "}", '"', ",", "x1"]
MARKS += ["<think>", "</think>"]
WORDS_OF_CALLS = [
    "{{ c.function.name }}",
    "{{ c.id }}",
    "{{ c.function.arguments | tojson }}",
    "{% for k in c.function.arguments %}{{ k }}{{ c.function.arguments[k] }}{% endfor %}",
    "{% for k in c.function.arguments %}<k={{ k }}>{{ c.function.arguments[k] }}</k>{% endfor %}",
    "{% for k in c.function.arguments %}{{ k }}={{ c.function.arguments[k] | tojson }},{% endfor %}",
    "({{ c.function.arguments }})",
]
texts = st.lists(st.sampled_from(MARKS), max_size=3).map("".join)


@st.composite
def templates(draw: st.DrawFn) -> str:
    """Return a template that writes thinking, content and calls with any marks in any order."""
    parts = [draw(texts) + draw(st.sampled_from(WORDS_OF_CALLS)) for _ in range(draw(st.integers(0, 4)))]
    call = "{% for c in m.tool_calls or [] %}" + "".join(parts) + draw(texts) + "{% endfor %}"
    turn = [
        draw(texts) + "{{ m.content }}" + draw(texts),
        "{% if m.reasoning_content %}"
        + draw(texts)
        + "{{ m.reasoning_content }}"
        + draw(texts)
        + "{% endif %}",
        call,
    ]
    turn = draw(st.permutations(turn))
    return (
        "{% for m in messages %}<|{{ m.role }}|>" + "".join(turn) + draw(texts) + "{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>" + draw(texts) + "{% endif %}{# tools #}"
    )


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(templates(), st.lists(st.sampled_from(MARKS) | st.text("一二三weather", max_size=7), max_size=12))
def test_any_template_has_a_description_that_loses_no_text(template: str, parts: list[str]) -> None:
    description = describe(template)
    reply = "".join(parts)
    undeclared = [{"function": {"name": "unheard_of"}}]
    content, thinking, calls = read(description, undeclared, "", list(reply))
    assert calls == []
    kept = sorted(character for character in content + thinking if character in "一二三")
    assert kept == sorted(character for character in reply if character in "一二三")
    assert read(description, undeclared, "", [reply]) == (content, thinking, [])
    read(description, WEATHER, "<|assistant|>", list(reply))
