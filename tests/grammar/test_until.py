"""Free text up to a mark, and thinking before a grammar, in llama.cpp's grammar engine."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.grammar import schema_to_gbnf
from ollama_tw.grammar.gbnf import RuleBook
from ollama_tw.grammar.reply import Marks, whole_reply
from ollama_tw.grammar.until import text_through, text_without
from tests.grammar.checker import matches

MARKS = st.lists(st.text("ab<", min_size=1, max_size=4), min_size=1, max_size=3)
TEXTS = st.text("ab<é", max_size=10)


def grammar_of(marks: list[str], *, through: bool) -> str:
    book = RuleBook()
    root = book.fresh("root")
    book.define(root, (text_through if through else text_without)(marks, book))
    return book.text()


@settings(max_examples=150, deadline=None)
@given(MARKS, TEXTS)
def test_text_without_marks(marks: list[str], text: str) -> None:
    assert matches(grammar_of(marks, through=False), text) == (not any(mark in text for mark in marks))


@settings(max_examples=150, deadline=None)
@given(MARKS, TEXTS)
def test_text_through_the_first_mark(marks: list[str], text: str) -> None:
    ends = any(text.endswith(mark) for mark in marks) and not any(mark in text[:-1] for mark in marks)
    assert matches(grammar_of(marks, through=True), text) == ends


def test_a_mark_of_any_characters() -> None:
    mark = ']<]minimax[>["\\\n^-é｜'
    assert matches(grammar_of([mark], through=True), f"before {mark[:-1]} {mark}")
    assert not matches(grammar_of([mark], through=True), f"before {mark} after")


def test_an_empty_mark_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty mark"):
        grammar_of([""], through=True)


NUMBER = schema_to_gbnf({"type": "integer"})
# The name of its root, and those of the rules around it, stand in texts and comments too.
TRICKY = (
    'root ::= "root" [root\\]"] thinking # root\nthinking ::= "]" root | thinkingtext\nthinkingtext ::= "x"\n'
)


@pytest.mark.parametrize(
    ("grammar", "answer"), [(NUMBER, "42"), (TRICKY, "rootr]roottx"), (TRICKY, 'root]]root"x')]
)
def test_thinking_comes_before_the_answer(grammar: str, answer: str) -> None:
    opens = whole_reply(grammar, Marks("<think>", "</think>"))
    for text in (answer, f"<think>free </thin\n\n</think>\n\n{answer}", f"\n<think></think>{answer}"):
        assert matches(opens, text)
    for text in (f"<think>{answer}", f"free {answer}", f"</think>{answer}", f"<think>x</think>{answer} free"):
        assert not matches(opens, text)
    opened = whole_reply(grammar, Marks("", "</think>"))
    for text in (f"free</think>{answer}", f"\n</think>\n\n{answer}"):
        assert matches(opened, text)
    for text in (answer, f"free {answer}", f"x</think>{answer}</think>{answer}"):
        assert not matches(opened, text)


def test_marks_stand_around_the_answer() -> None:
    wrapped = whole_reply(NUMBER, Marks("[T]", "[/T]"), Marks("<a>", "</a>"))
    for text in ("[T]x[/T]<a>42</a>", "<a>42</a>", "42", "<a>42"):
        assert matches(wrapped, text)
    assert not matches(wrapped, "<a>x</a>")
    headed = whole_reply(NUMBER, None, Marks("final:"), must_open=True)
    assert matches(headed, "final:42")
    assert not matches(headed, "42")
