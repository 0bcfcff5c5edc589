"""Arguments that stand as keys and values between tags, from what a template writes for trial calls."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ollama_tw.output.description import HOLE, KEY, CallLayout, Notation, Pair, TaggedArguments
from ollama_tw.templates.rendered_text import shared_end, shared_start
from ollama_tw.templates.trial_tools import KEYS, NAMES, TYPED

_JSON_TYPES = ("string", "number", "boolean", "object", "array")
_CDATA = "<![CDATA["


def with_tags(
    layout: CallLayout, text: str, at: int, arguments: Mapping[str, Any]
) -> tuple[CallLayout | None, int]:
    """Return the layout with keys and values between tags, and the end of the call that begins at ``at``."""
    (key, value), (other_key, other_value) = list(arguments.items())[:2]
    positions = [at]
    for part in (key, value, other_key, other_value):
        positions.append(text.find(part, positions[-1]))
        if positions[-1] < 0:
            return None, 0
    _, key_at, value_at, other_at, last_at = positions
    name_end = at + len(NAMES[0]) if text.startswith(NAMES[0], at) else at + len(NAMES[1])
    before = text[name_end:key_at]
    between = text[value_at + len(value) : other_at].replace(key, KEY)
    after = text[last_at + len(other_value) :].replace(other_key, KEY)
    opening = shared_end(before, between).lstrip()
    closing = shared_start(between, after)[: len(between) - len(opening)]
    written = text[key_at + len(key) : value_at]
    if not opening.strip() or not closing.strip() or not written.strip():
        return None, 0
    tags = TaggedArguments(
        Pair(opening, written),
        Pair("", closing),
        between[len(closing) : len(between) - len(opening)],
    )
    end = last_at + len(other_value) + len(closing.replace(KEY, other_key))
    layout = replace(
        layout,
        notation=Notation.TAGGED,
        tagged=tags,
        name=Pair("", before[: len(before) - len(opening)]),
    )
    return layout, end


def with_types(tags: TaggedArguments, typed: str | None, source: str) -> TaggedArguments:
    """Return ``tags`` with the words by which the call in ``typed`` writes the types of its values."""
    tags = replace(tags, cdata=_CDATA in source)
    if typed is None:
        return tags
    number = typed.find(str(TYPED[KEYS[2]]))
    written, closing = tags.key.close, tags.value.close
    if written.endswith('"') and closing.startswith('"') and typed[number - 1 : number] != '"':
        tags = replace(tags, key=Pair(tags.key.open, written[:-1]), value=Pair("", closing[1:]), encoded=True)
    texts = []
    for key in TYPED:
        at = typed.find(key, typed.find(NAMES[0]))
        mark = typed[at + len(key) : at + len(key) + len(tags.key.close) + 16]
        texts.append(mark)
    close = tags.key.close
    begin = _start_of_all(texts, close)
    rest = close[len(begin) :]
    word = re.match(r"\w+", rest)
    if not begin or begin == close or word is None:
        return tags
    tail = rest[word.end() :]
    words = []
    for text in texts:
        given = re.match(r"\w+", text[len(begin) :])
        if given is None or not text.startswith(tail, len(begin) + given.end()):
            return tags
        words.append(given[0])
    types = tuple(zip(_JSON_TYPES, words, strict=True))
    return replace(tags, key=Pair(tags.key.open, begin + HOLE + tail), types=types)


def _start_of_all(texts: Sequence[str], first: str) -> str:
    """Return the text with which ``first`` and all ``texts`` begin, up to the beginning of a word."""
    size = len(first)
    for text in texts:
        size = min(size, next((i for i, (a, b) in enumerate(zip(first, text, strict=False)) if a != b), size))
    while 0 < size < len(first) and first[size - 1].isalnum():
        size -= 1
    return first[:size]
