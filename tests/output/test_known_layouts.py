"""The families that Ollama names: its own vectors, and replies of any marks in any pieces."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.output.description import HOLE, KEY, Description
from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.output.stream_parser import Call, Content, Event, StreamParser, Thinking
from tests.helpers.reference_data import vectors

Vector = dict[str, Any]


def events_of(
    description: Description, tools: list[dict[str, Any]], prompt: str, pieces: list[str]
) -> list[Event]:
    parser = StreamParser(description, tools, prompt=prompt)
    return [event for piece in pieces for event in parser.feed(piece)] + parser.finish()


def parts(events: list[Event]) -> tuple[str, str, list[tuple[str, Any]]]:
    """Return content and thinking without white space, and the calls."""
    texts = {
        kind: "".join("".join(event.text.split()) for event in events if isinstance(event, kind))
        for kind in (Content, Thinking)
    }
    calls = [event.call.function for event in events if isinstance(event, Call)]
    return texts[Content], texts[Thinking], [(call.name, call.arguments) for call in calls]


# Ollama's own vectors


def _reply(vector: Vector) -> str:
    return "".join(vector["case"]["pieces"])


def _named(*names: str) -> Callable[[Vector], bool]:
    return lambda vector: vector["case"]["name"] in names


def _case(*beginnings: str) -> Callable[[Vector], bool]:
    return lambda vector: vector["name"].startswith(beginnings)


def _cut_mark(vector: Vector) -> bool:
    description = BY_NAME[vector["case"]["name"]]
    mark = description.calls.opening if description.calls is not None else ""
    return (
        vector["case"]["name"] in ("cogito", "deepseek3", "lfm2", "lfm2-thinking")
        and mark in _reply(vector)
        and not any(mark in piece for piece in vector["case"]["pieces"])
    )


def _call_in_thinking(vector: Vector) -> bool:
    description, reply = BY_NAME[vector["case"]["name"]], _reply(vector)
    if not vector["case"]["think"] or description.thinking is None or description.calls is None:
        return False
    end = reply.find(description.thinking.close.strip())
    return reply.find(description.calls.opening.strip().split()[0]) >= 0 and end < 0


def _past_the_turn(vector: Vector) -> bool:
    reply = _reply(vector)
    return any(
        end in reply and reply.split(end, 1)[1].strip() for end in ("</assistant>", "<|eot|><|start|>user")
    )


DIFFERENCES: dict[str, tuple[int, Callable[[Vector], bool]]] = {
    "Ollama does not find a mark of calls that comes in two pieces": (38, _cut_mark),
    "a call in thinking that was not closed is a call": (26, _call_in_thinking),
    "a call is found although half of its opening mark is missing": (
        15,
        _case(
            *("qwen3.5/two_calls", "qwen3.5/call+next", "qwen3.5/think_call+next"),
            *("cogito/call/think=True", "cogito/two_calls/think=True"),
        ),
    ),
    "Ollama drops the whole call": (6, _case("olmo3/call/", "olmo3/text_call/")),
    "Ollama fails or drops the text where a call is malformed or incomplete": (
        9,
        _case("qwen3/hand3", "qwen3/hand4", "qwen3-coder/hand2"),
    ),
    "the mark after a call of gpt-oss is no part of its arguments": (3, _case("harmony/hand1")),
    "thinking that was turned off and comes all the same is kept": (
        21,
        lambda vector: (
            vector["case"]["name"] in ("gemma4", "gemma4-no-thinking", "glimmer", "cohere", "glm-4.7")
            and not vector["case"]["think"]
            and vector["name"].split("/")[1].startswith(("think", "hand0"))
        ),
    ),
    "the mark that ends a turn is dropped at its end": (
        6,
        _case("gemma4/text_call", "gemma4-no-thinking/text_call"),
    ),
    "text past the end of the turn is kept with its marks": (50, _past_the_turn),
    "thinking is content where it was turned off": (3, _case("qwen3-vl-thinking/text_call/think=False")),
    "cogito thinks without being asked": (3, _case("cogito/hand1/think=True")),
    "a closing mark of thinking that the prompt has closed is text": (
        1,
        _case("laguna/think_call/think=False", "poolside-v1/think_call/think=False"),
    ),
}
"""Reasons for results that differ from those of Ollama's parser on purpose, with the number of vectors.

A vector counts for the first reason that applies to it.
"""


def _agrees(vector: Vector) -> bool:
    case = vector["case"]
    description = BY_NAME[case["name"]]
    prompt = description.generation.open if case["think"] else description.generation.close
    if not case["think"] and not description.opened(prompt):
        description = replace(description, thinking=None)
    expected = vector["expect"]["events"]
    return parts(events_of(description, case["tools"], prompt, case["pieces"])) == (
        "".join("".join(event.get("content", "").split()) for event in expected),
        "".join("".join(event.get("thinking", "").split()) for event in expected),
        [
            (call["function"]["name"], call["function"]["arguments"])
            for event in expected
            for call in event.get("calls", [])
        ],
    )


def test_the_families_agree_with_ollama_but_for_the_named_differences() -> None:
    found: Counter[str] = Counter()
    agreeing = 0
    for vector in vectors("parsers"):
        if _agrees(vector):
            agreeing += 1
            continue
        reasons = [reason for reason, (_, differs) in DIFFERENCES.items() if differs(vector)]
        assert reasons, vector["name"]
        found[reasons[0]] += 1
    assert found == {reason: count for reason, (count, _) in DIFFERENCES.items()}
    assert agreeing == 407


# Any marks in any pieces

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "string"}}}}}
]


def marks(description: Description) -> list[str]:
    """Return the texts of a description, whole and in halves, and a call in its layout."""
    found = [text.replace(HOLE, "1").replace(KEY, "a") for text in description.preserved]
    found += [description.generation.open, description.generation.close]
    if description.turns is not None:
        turns = description.turns
        found += [turns.open, turns.header_end, *turns.closes, *turns.thinking, *turns.content]
        found += [f"{turns.recipient}add", f"{turns.recipient}other"]
    layout = description.calls
    if layout is not None and layout.tagged is not None:
        tags = layout.tagged
        found += [tags.key.open, tags.key.close + tags.value.open, tags.value.close, f"{tags.key.open}a"]
        found += [layout.name.open + "add" + layout.name.close]
    halves = [text[: len(text) // 2] for text in found]
    return [text for text in found + halves if text]


PIECES = [
    *("{", "}", "[", "]", "(", ")", '"', ":", ",", "=", "\n", " ", "add", "other", "ad", "a"),
    *('{"a": "#"}', '{"name": "add", "arguments": {"a": "#"}}', '{"name": "add", "arguments": {"a": "#'),
    *("add(a='#')", "add{a:#}", "#", "##"),
]


@st.composite
def replies(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    """Return a family, a reply in which no two Chinese characters are equal, and the reply in pieces."""
    name = draw(st.sampled_from(sorted(BY_NAME)))
    parts = draw(st.lists(st.sampled_from(marks(BY_NAME[name]) + PIECES) | st.text(max_size=3), max_size=14))
    reply, number = "", 0
    for character in "".join(parts):
        if "\u4e00" <= character <= "\u9fff":
            continue
        reply += chr(0x4E00 + number) if character == "#" else character
        number += character == "#"
    cuts = sorted(draw(st.sets(st.integers(0, len(reply)), max_size=6)))
    return name, reply, [reply[start:end] for start, end in pairwise([0, *cuts, len(reply)])]


def chinese(text: str) -> str:
    return "".join(character for character in text if "\u4e00" <= character <= "\u9fff")


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(replies(), st.booleans())
def test_no_reply_loses_or_doubles_text_whatever_the_pieces(
    drawn: tuple[str, str, list[str]], opened: bool
) -> None:
    name, reply, pieces = drawn
    description = BY_NAME[name]
    prompt = description.generation.open if opened else ""
    events = events_of(description, TOOLS, prompt, [reply])
    assert parts(events_of(description, TOOLS, prompt, pieces)) == parts(events)
    assert parts(events_of(description, TOOLS, prompt, list(reply))) == parts(events)
    said = chinese("".join(map(text_of, events)))
    assert len(set(said)) == len(said)
    if not any(isinstance(event, Call) for event in events):
        assert said == chinese(reply)


def text_of(event: Event) -> str:
    if isinstance(event, Call):
        return json.dumps(event.call.function.arguments, ensure_ascii=False)
    return event.text


@settings(max_examples=150, deadline=None)
@given(replies())
def test_without_a_declared_tool_only_marks_are_dropped(drawn: tuple[str, str, list[str]]) -> None:
    name, reply, pieces = drawn
    other = [{"type": "function", "function": {"name": "unheard_of"}}]
    events = events_of(BY_NAME[name], other, "", pieces)
    assert not any(isinstance(event, Call) for event in events)
    said = "".join(map(text_of, events))
    assert chinese(said) == chinese(reply)
    if BY_NAME[name].thinking is None and not BY_NAME[name].ends and BY_NAME[name].content is None:
        assert said == reply
