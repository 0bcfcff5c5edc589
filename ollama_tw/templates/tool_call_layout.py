"""Layout of tool calls, from what a template writes for calls of trial tools."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ollama_tw.output.description import (
    HOLE,
    CallLayout,
    IdPlace,
    Notation,
    Pair,
    Shape,
)
from ollama_tw.templates.rendered_text import closing_twin, first_mark, shared_end, shared_start
from ollama_tw.templates.tool_call_tags import with_tags, with_types
from ollama_tw.templates.trial import EOS
from ollama_tw.templates.trial_tools import FIRST, IDS, NAMES, SECOND

_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Renderings:
    """Text of a prompt from the first mark of its calls to the end of the model's turn."""

    one: str
    """One call of the first tool with :data:`FIRST`."""
    two: str | None
    """That call and one of the second tool with :data:`SECOND`; None if the template refuses two."""
    typed: str | None
    """One call of the first tool with :data:`TYPED`."""
    turn_end: str
    """The end of a turn without calls, from the end of its content."""
    source: str


@dataclass(frozen=True)
class _Span:
    """One call in a text: where its name or its object begins, and where its arguments end."""

    start: int
    end: int


def layout_of(found: Renderings) -> CallLayout | None:
    """Return the layout of the calls; None if they are written in no known way."""
    one = found.one
    for read in (_object, _named, _unnamed):
        layout, first = read(one, NAMES[0], FIRST, IDS[0])
        if layout is None or first is None:
            continue
        second = None
        if found.two is not None:
            start = found.two.find(one[first.start : first.end]) + first.end - first.start
            _, second = read(found.two[start:], NAMES[1], SECOND, IDS[1])
            if second is not None:
                layout = _generalised(layout, one, first, found.two[start:], second)
                between = found.two[start : start + second.start]
                return _finished(_around(layout, found, first, between), found)
        return _finished(_around(layout, found, first, None), found)
    return None


def _object(
    text: str, name: str, arguments: Mapping[str, Any], identifier: str
) -> tuple[CallLayout | None, _Span | None]:
    """Read a call as one JSON object that contains its name."""
    at = text.find(name)
    start = text.find("{")
    while 0 <= start < at:
        value, end = _json(text, start)
        if isinstance(value, dict) and end > at:
            layout = _fields(value, name, arguments, identifier, text[start:end])
            if layout is not None:
                return layout, _Span(start, end)
        start = text.find("{", start + 1)
    return None, None


def _fields(
    value: dict[str, Any], name: str, arguments: Mapping[str, Any], identifier: str, text: str
) -> CallLayout | None:
    compact = '": ' not in text
    if value.get(name) == arguments:
        return CallLayout(shape=Shape.KEYED, compact=compact)
    for wrapper, inner in [
        ("", value),
        *((key, each) for key, each in value.items() if isinstance(each, dict)),
    ]:
        names = [key for key, each in inner.items() if each == name]
        given = [key for key, each in inner.items() if _decoded(each) == arguments]
        if names and given:
            ids = [key for key, each in value.items() if each == identifier or "id" in key.lower().split("_")]
            return CallLayout(
                name_key=names[0],
                arguments_key=given[0],
                id_key=ids[0] if ids else "",
                id_place=IdPlace.FIELD if ids else IdPlace.NONE,
                wrapper=wrapper,
                compact=compact,
            )
    return None


def _decoded(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _json(text: str, start: int) -> tuple[Any, int]:
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start
    return value, end


def _named(
    text: str, name: str, arguments: Mapping[str, Any], identifier: str
) -> tuple[CallLayout | None, _Span | None]:
    """Read a call as a name with arguments after it."""
    # Where the name stands in a header too, it is the last one before the arguments that is read.
    key = next(iter(arguments))
    at = text.rfind(name, 0, max(text.find(key), 0))
    if at < 0:
        return None, None
    after = at + len(name)
    layout = CallLayout(shape=Shape.NAME_FIRST)
    brace = text.find("{", after)
    value, end = _json(text, brace) if brace >= 0 else (None, 0)
    if value == arguments:
        layout = replace(layout, compact='": ' not in text[brace:end])
        layout = _with_id(layout, text, at, after, brace, end, identifier)
        return layout, _Span(at, _id_end(layout, text, end, identifier))
    if text.startswith("(", after):
        end = _closing(text, after)
        return (replace(layout, notation=Notation.PYTHON), _Span(at, end)) if end else (None, None)
    if text.startswith("{", after) and text.startswith(key + ":", text.find(key)):
        value_at = text.find(arguments[key], after)
        quote = text[text.find(key) + len(key) + 1 : value_at]
        end = _closing(text, after)
        if end and quote.strip():
            return replace(layout, notation=Notation.GEMMA, quote=quote.strip()), _Span(at, end)
    tagged, end = with_tags(layout, text, at, arguments)
    return (tagged, _Span(at, end)) if tagged is not None else (None, None)


def _closing(text: str, start: int) -> int:
    """Return the end of the bracket that opens at ``start``, where strings have no brackets; else 0."""
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] in "({[") - (text[position] in ")}]")
        if depth == 0:
            return position + 1
    return 0


def _with_id(
    layout: CallLayout, text: str, at: int, after: int, start: int, end: int, identifier: str
) -> CallLayout:
    """Return the layout with the texts between its name and its arguments, and those around an id."""
    where = text.find(identifier)
    past = where + len(identifier)
    if where < 0:
        return replace(layout, name=Pair("", text[after:start]))
    if where < at:
        return replace(
            layout, id_place=IdPlace.BEFORE_NAME, id=Pair("", text[past:at]), name=Pair("", text[after:start])
        )
    if where < start:
        return replace(layout, id_place=IdPlace.AFTER_NAME, id=Pair(text[after:where], text[past:start]))
    return replace(
        layout,
        id_place=IdPlace.AFTER_ARGUMENTS,
        id=Pair(text[end:where], ""),
        name=Pair("", text[after:start]),
    )


def _id_end(layout: CallLayout, text: str, end: int, identifier: str) -> int:
    if layout.id_place is IdPlace.AFTER_ARGUMENTS:
        return text.find(identifier, end) + len(identifier)
    return end


def _unnamed(
    text: str, name: str, arguments: Mapping[str, Any], identifier: str
) -> tuple[CallLayout | None, _Span | None]:
    """Read a call whose id contains its name, so that the template writes no name."""
    at = text.find(identifier)
    if at < 0 or name in text:
        return None, None
    start = text.find("{", at)
    value, end = _json(text, start) if start >= 0 else (None, 0)
    if value != arguments:
        return None, None
    close = text[at + len(identifier) : start]
    layout = CallLayout(
        shape=Shape.NAME_FIRST, id_place=IdPlace.IN_NAME, name=Pair("functions.", ":" + HOLE + close)
    )
    return layout, _Span(at, end)


def _generalised(layout: CallLayout, one: str, first: _Span, two: str, second: _Span) -> CallLayout:
    """Return the layout with a hole where the text after the name counts the calls."""
    close = layout.name.close
    other_at = second.start + len(NAMES[1])
    other = two[other_at : other_at + len(close)]
    if layout.shape is not Shape.NAME_FIRST or layout.id_place is IdPlace.IN_NAME or close == other:
        return layout
    if _DIGITS.sub(HOLE, close) != _DIGITS.sub(HOLE, other):
        return layout
    return replace(layout, name=Pair("", _DIGITS.sub(HOLE, close)))


def _around(layout: CallLayout, found: Renderings, first: _Span, between: str | None) -> CallLayout:
    """Return the layout with the texts around the calls and between two of them."""
    one, turn_end = found.one, found.turn_end
    before, after = one[: first.start].lstrip(), one[first.end :]
    if layout.id_place is IdPlace.BEFORE_NAME:
        before = before[: before.find(IDS[0])]
        between = None if between is None else between[: between.find(IDS[1])]
    end = shared_end(after, turn_end)
    after = after[: len(after) - len(end)]
    if after[-1:].isalnum():
        after += first_mark(end)
    after = after.replace(EOS, "")
    array = before.rstrip().endswith("[") and after.lstrip().startswith("]")
    if array and (between is None or "]" not in between):
        before, after = before.rstrip().removesuffix("["), after.lstrip().removeprefix("]")
        section = _section(before, after, found)
        return replace(layout, array=True, section=section, separator=between or ", ")
    if between is None:
        return replace(layout, section=_section(before, after, found))
    opening = shared_end(before, between)
    closing = shared_start(between[: len(between) - len(opening)], after)
    if not opening.strip():
        opening = ""
    rest = between[len(closing) : len(between) - len(opening)]
    separator = rest + opening[: len(opening) - len(opening.lstrip())] if opening == before else rest
    opening = opening.lstrip() if opening == before else opening
    section = _section(before[: len(before) - len(opening)], after[len(closing) :], found)
    return replace(layout, section=section, call=Pair(opening, closing), separator=separator)


def _section(opening: str, closing: str, found: Renderings) -> Pair:
    """Return the texts around all calls, without what ends the turn."""
    if not opening.strip():
        return Pair()
    twin = closing_twin(opening)
    if twin and twin in closing:
        end = closing.find(twin) + len(twin)
        return Pair(opening, closing[:end] + (first_mark(closing[end:]) if twin[-1].isalnum() else ""))
    mark = first_mark(closing) or closing
    if not mark.strip():
        mark = twin if twin in found.source else ""
    return Pair(opening, mark)


def _finished(layout: CallLayout, found: Renderings) -> CallLayout:
    """Return the layout with what only tagged arguments have."""
    if layout.tagged is None:
        return layout
    return replace(layout, tagged=with_types(layout.tagged, found.typed, found.source))
