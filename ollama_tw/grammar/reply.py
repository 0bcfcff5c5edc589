"""Grammars of whole replies: thinking, which is free text, and the marks around the answer."""

import re
from dataclasses import dataclass

from ollama_tw.grammar.gbnf import EMPTY, Literal, Node, Ref, Repeat, RuleBook, chars, optional, seq
from ollama_tw.grammar.until import text_through

# Literals, character classes, tokens and comments of GBNF, each also without its end, and the names of rules
# outside of them.
_PART = re.compile(
    r'"(?:[^"\\]++|\\.)*(?:"|\\?\Z)|\[(?:[^\]\\]++|\\.)*(?:\]|\\?\Z)|<[^>]*+(?:>|\Z)|#[^\n]*'
    r"|(?P<name>[A-Za-z0-9-]+)",
    re.DOTALL,
)

_SPACE = Repeat(chars("\t\n\r\r  "), 0, 4)


@dataclass(frozen=True)
class Marks:
    """Texts around a part of a reply; either may be empty."""

    open: str = ""
    close: str = ""


def whole_reply(
    grammar: str, thinking: Marks | None, content: Marks = Marks(), *, must_open: bool = False
) -> str:
    """Return the grammar of a reply that thinks, and then answers with a text of ``grammar``.

    :param thinking: marks of the thinking, with which a reply begins that does think; with an empty opening
        one, the prompt has opened it. None for no thinking.
    :param content: marks of the answer, which may be missing; with ``must_open`` the opening one is not.

    A few characters of white space may stand around the marks of the thinking.
    """
    prefix = "thinking"
    while prefix in grammar:
        prefix += "-"
    answer = f"{prefix}answer"
    book = RuleBook()
    root = book.fresh("root")
    thought: Node = EMPTY
    if thinking is not None:
        thought = seq(text_through([thinking.close], book, f"{prefix}text"), _SPACE)
        if thinking.open:
            thought = optional(seq(thinking.open, thought))
        thought = seq(_SPACE, thought)
    opening = seq(_SPACE, content.open) if must_open else _optional(content.open)
    book.define(root, seq(thought, opening, Ref(answer), _optional(content.close)))
    return book.text() + _renamed(grammar, answer)


def _optional(text: str) -> Node:
    return optional(Literal(text)) if text else EMPTY


def _renamed(grammar: str, root: str) -> str:
    """Return ``grammar`` with another name of its rule ``root``."""
    return _PART.sub(lambda part: root if part["name"] == "root" else part[0], grammar)
