"""Grammars of replies that begin with thinking, which is free text."""

import re

from ollama_tw.grammar.gbnf import Node, Ref, Repeat, RuleBook, chars, optional, seq
from ollama_tw.grammar.until import text_through

# Literals, character classes, tokens and comments of GBNF, and the names of rules outside of them.
_PART = re.compile(
    r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|<[^>]*>|#[^\n]*|(?P<name>[A-Za-z0-9-]+)', re.DOTALL
)

_SPACE = Repeat(chars("\t\n\r\r  "), 0, 4)


def after_thinking(grammar: str, opening: str, closing: str) -> str:
    """Return the grammar of thinking and then a text of ``grammar``.

    ``opening`` and ``closing`` are the marks of the thinking. With an ``opening`` there may be no thinking;
    "" if the prompt has opened it. A few characters of white space may surround both.
    """
    prefix = "thinking"
    while prefix in grammar:
        prefix += "-"
    answer = f"{prefix}answer"
    book = RuleBook()
    root = book.fresh("root")
    thought: Node = text_through([closing], book, f"{prefix}text")
    if opening:
        thought = optional(seq(opening, thought, _SPACE))
    book.define(root, seq(_SPACE, thought, _SPACE, Ref(answer)))
    return book.text() + _renamed(grammar, answer)


def _renamed(grammar: str, root: str) -> str:
    """Return ``grammar`` with another name of its rule ``root``."""
    return _PART.sub(lambda part: root if part["name"] == "root" else part[0], grammar)
