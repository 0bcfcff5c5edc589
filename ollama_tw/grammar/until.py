"""Grammars of free text up to a mark: the complement automaton of the mark, as rules.

GBNF cannot exclude a word. The states of the automaton that searches for the marks are rules, one for each
prefix of a mark, and the transitions that complete a mark are left out. Every rule ends with the reference
to the next state, so that llama.cpp's stacks do not grow.

Source: Aho and Corasick, "Efficient string matching" (CACM 18, 1975).
"""

from collections.abc import Sequence

from ollama_tw.grammar.gbnf import EMPTY, Chars, Literal, Node, Ref, RuleBook, choice, complement, seq


def text_without(marks: Sequence[str], book: RuleBook, hint: str = "text") -> Ref:
    """Return any text, also the empty one, that contains none of ``marks``.

    It may end with the beginning of a mark, which must then not be completed by what follows.
    """
    return _automaton(marks, book, hint, through=False)


def text_through(marks: Sequence[str], book: RuleBook, hint: str = "text") -> Ref:
    """Return any text up to and including the first occurrence of one of ``marks``."""
    return _automaton(marks, book, hint, through=True)


def _automaton(marks: Sequence[str], book: RuleBook, hint: str, *, through: bool) -> Ref:
    if not marks or not all(marks):
        raise ValueError("an empty mark occurs everywhere")
    states = sorted({mark[:end] for mark in marks for end in range(len(mark))}, key=len)
    key = (tuple(sorted(set(marks))), through)
    if key in book.automata:
        return book.automata[key]
    names = {state: Ref(book.fresh(hint)) for state in states}
    alphabet = sorted({character for mark in marks for character in mark})
    for state in states:
        branches: list[Node] = [] if through else [EMPTY]
        known: list[tuple[int, int]] = []
        for character in alphabet:
            text = state + character
            if any(text.endswith(mark) for mark in marks):
                known.append((ord(character), ord(character)))
                if through:
                    branches.append(Literal(character))
                continue
            following = next(text[start:] for start in range(len(text) + 1) if text[start:] in names)
            if following:
                known.append((ord(character), ord(character)))
                branches.append(seq(Literal(character), names[following]))
        branches.append(seq(Chars(complement(known)), names[""]))
        book.define(names[state].name, choice(branches))
    book.automata[key] = names[""]
    return names[""]
