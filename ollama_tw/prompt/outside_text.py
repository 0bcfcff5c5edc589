"""Text from outside in a prompt, in which special tokens are not recognised.

A message of a user or a tool may contain the text of a special token, such as ``<|im_end|>``, which would end
its turn. Before rendering, a break is put into each such text; where the rendered prompt has one, it is cut,
and the parts are tokenised one by one. The template's own text keeps its special tokens.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from msgspec.structs import replace

from ollama_tw.wire.native import Message

BREAK = "\ufdd2"
"""A noncharacter, which is in no text of a message."""

# Marks may overlap: one kind contains the other.
_MARK = re.compile(r"<(?=([^<>\s]{1,80}>))|\[(?=(/?[A-Z_]{2,40}\]))")
_ROLES = frozenset({"user", "tool"})

_MAX_CHECKS = 400
"""Different marks of a conversation that are looked up in the vocabulary; all further ones get a break."""


def with_breaks(messages: Sequence[Message], is_special: Callable[[str], bool]) -> list[Message]:
    """Return ``messages`` with a break in each special token that a user or a tool has written.

    ``is_special`` returns whether a text may be a special token of the vocabulary.
    """
    known: dict[str, bool] = {}

    def is_known(mark: str) -> bool:
        if mark not in known:
            known[mark] = len(known) >= _MAX_CHECKS or is_special(mark)
        return known[mark]

    def broken(text: str) -> str:
        places = [
            found.end() for found in _MARK.finditer(text) if is_known(found[0] + (found[1] or found[2]))
        ]
        if not places:
            return text
        return BREAK.join(text[begin:end] for begin, end in pairwise([0, *places, len(text)]))

    guarded = []
    for message in messages:
        if message.role in _ROLES and message.content:
            text = broken(message.content)
            message = message if text is message.content else replace(message, content=text)
        guarded.append(message)
    return guarded


def special_in(tokenize: Callable[..., Sequence[int]]) -> Callable[[str], bool]:
    """Return the test of :func:`with_breaks` for a vocabulary: a text that is one token wherever it stands.

    An ordinary word of the vocabulary may pass it too, which changes only how that word is tokenised.
    """

    def is_special(text: str) -> bool:
        tokens = tokenize(text, add_special=False)
        return len(tokens) == 1 and tokens[0] in tokenize(f"x{text}x", add_special=False)

    return is_special


def tokens_of(prompt: str, tokenize: Callable[..., Sequence[int]]) -> tuple[int, ...] | None:
    """Return the tokens of a prompt with breaks; None for a vocabulary that puts a token after each text."""
    first, *others = prompt.split(BREAK)
    if tokenize("x")[-1] != tokenize("x", add_special=False)[-1]:
        return None
    tokens = list(tokenize(first))
    for part in others:
        if part:
            tokens += tokenize(part, add_special=False)
    return tuple(tokens)
