"""Markdown that is rendered while it arrives, as a terminal shows it."""

import io
from collections.abc import Sequence

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import wcswidth

from ollama_tw.cli.answer import Style
from ollama_tw.cli.rendering.answer import RenderedAnswer
from ollama_tw.cli.rendering.live import LiveLines

DOCUMENT = """\
# A title

Some **bold** text, `code`, a [link](http://x.example/), <http://auto.example> and <b>HTML</b>.
Second line of the paragraph with 汉字 and ***both***.

- one
- two
  1. nested
  2. more

```python
def double(number):
    return 2 * number
```

| name | value |
|------|------:|
| a    | 1     |
| longer | 汉字 |

> quoted

Setext
======

[1]: http://definition.example
"""


class Screen(io.StringIO):
    """A terminal of some size that keeps what was written."""

    def __init__(self, columns: int = 60, rows: int = 24, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding
        self.size = (columns, rows)
        self._screen = pyte.HistoryScreen(columns, rows, history=5000)
        self._stream = pyte.Stream(self._screen)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._stream.feed(text.replace("\n", "\r\n"))
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        """All lines, those that were scrolled out of the screen included."""
        above = ["".join(row[at].data for at in range(self.size[0])) for row in self._screen.history.top]
        return [line.rstrip() for line in (*above, *self._screen.display)]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("ollama_tw.cli.rendering.answer.size_of", lambda stream: stream.size)


def answering(screen: Screen, *, folds: bool = False) -> RenderedAnswer:
    """Return an answer that is drawn with each piece: an hour passes between two."""
    hours = iter(range(0, 10**9, 3600))
    times = (hour for hour in hours for _ in range(2))
    style = Style(screen.size[0], plain=False, is_terminal=True, renders=True, folds=folds)
    return RenderedAnswer(style, screen, clock=lambda: float(next(times)))


def shown(pieces: Sequence[str], columns: int = 60, rows: int = 24) -> str:
    """Return what the terminal shows of an answer in pieces."""
    screen = Screen(columns, rows)
    answer = answering(screen)
    for piece in pieces:
        answer.add(piece)
    answer.end()
    return screen.text


def test_a_document() -> None:
    assert shown([DOCUMENT]).split("\n") == [
        "A title",
        "",
        "Some bold text, code, a link (http://x.example/),",
        "http://auto.example and <b>HTML</b>.",
        "Second line of the paragraph with 汉字 and both.",
        "",
        " • one",
        " • two",
        "    1 nested",
        "    2 more",
        "",
        "  def double(number):",
        "      return 2 * number",
        "",
        " name    value",
        " ─────────────",
        " a           1",
        " longer   汉字",
        "",
        "▌ quoted",
        "",
        "Setext",
        "",
        "[1]: http://definition.example",
    ]


@pytest.mark.slow
@settings(max_examples=12)
@given(
    cuts=st.lists(st.integers(1, len(DOCUMENT) - 1), unique=True),
    columns=st.sampled_from([20, 40, 80, 200]),
    rows=st.sampled_from([4, 10, 24]),
)
def test_the_pieces_make_no_difference(cuts: list[int], columns: int, rows: int) -> None:
    ends = [*sorted(cuts), len(DOCUMENT)]
    pieces = [DOCUMENT[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    # A table that is higher than the screen is only whole when it has ended.
    assert shown(pieces, columns, rows) == shown([DOCUMENT], columns, 1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "document",
    [
        "word " * 150,
        "\n".join(f"{number}. item" for number in range(1, 30)),
        "```\n" + "\n".join(f"line {number}" for number in range(30)) + "\n```",
        "|n|text|\n|-|-|\n" + "\n".join(f"|{n}|{'x' * n}|" for n in range(1, 14)),
        "text\n\n" + "word " * 100 + "\n\n- item\n\nend",
    ],
    ids=["paragraph", "list", "code", "table", "several"],
)
def test_a_block_higher_than_the_screen_is_shown_once(document: str) -> None:
    assert shown(list(document), rows=8) == shown([document], rows=1000)


def test_a_block_that_has_ended_is_not_written_again() -> None:
    screen = Screen()
    answer = answering(screen)
    for piece in ("First ", "paragraph.\n", "\n", "Second\n"):
        answer.add(piece)
    screen.seek(0)
    screen.truncate()
    for piece in ("line", " and", "\n\nthird"):
        answer.add(piece)
    assert "First" not in screen.getvalue()
    # Of the block that goes on, the lines that stay are not written again, either.
    assert "Second" not in screen.getvalue()


def test_nothing_is_cut_off_on_a_narrow_terminal() -> None:
    words = ["short", "incomprehensibilities", "汉字汉字汉字汉字", "`code-of-some-length`", "end"]
    table = f"|a|b|c|\n|-|-|-|\n|{words[0]}|{words[1]}|{words[2]}|\n|{words[3]}|x|{words[4]}|\n"
    text = shown([table, "\n```\n" + "y" * 60 + "\n```\n"], columns=24)
    assert "…" not in text
    assert max(map(wcswidth, text.split("\n"))) < 24
    for letter, count in (("y", 60), ("汉", 4), ("b", 2)):
        assert text.count(letter) == count


def test_code_is_highlighted() -> None:
    screen = Screen()
    answer = answering(screen)
    answer.add("```python\nfor x in y:\n```\n")
    answer.end()
    assert "for" in screen.text
    assert "for x in y:" not in screen.getvalue()


def test_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen()
    answer = answering(screen)
    answer.add(DOCUMENT)
    answer.end()
    colours = [f"{base + number}m" for base in (30, 40, 90, 100) for number in range(9)]
    assert not [
        one for one in colours if f"\x1b[{one}" in screen.getvalue() or f";{one}" in screen.getvalue()
    ]


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252"])
def test_other_encodings_get_characters_that_they_have(encoding: str) -> None:
    screen = Screen(encoding=encoding)
    answer = answering(screen)
    answer.add("- item\n\n> quote\n\n|a|b|\n|-|-|\n|1|2|\n\n---\n")
    answer.end()
    screen.getvalue().encode(encoding)
    assert " - item" in screen.text
    assert "> quote" in screen.text


def test_control_characters_of_the_model_do_not_reach_the_terminal() -> None:
    screen = Screen()
    answer = answering(screen)
    answer.add("a\x1b]0;title\x07b\n\n```\n\x1b[2Jcode\x9b1m\n```\n", "thought\x1b[2J")
    answer.end()
    assert "\x1b]0;" not in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()
    assert "\x9b" not in screen.getvalue()
    assert "a]0;titleb" in screen.text


def test_thinking_precedes_the_answer() -> None:
    screen = Screen()
    answer = answering(screen)
    for thinking in ("Let me", " see."):
        answer.add("", thinking)
    answer.add("**Yes**")
    answer.end()
    assert screen.text == "Thinking...\nLet me see.\n...done thinking.\n\nYes"


def test_folded_thinking_is_one_line_at_its_end() -> None:
    screen = Screen()
    answer = answering(screen, folds=True)
    for number in range(50):
        answer.add("", f"thought {number}\n")
    assert screen.text == "Thinking...\nthought 46\nthought 47\nthought 48\nthought 49"
    answer.add("Yes")
    answer.end()
    first, blank, last = screen.lines[:3]
    assert first.startswith("Thought for ")
    assert first.endswith(" s, 100 words (/thinking shows them)")
    assert (blank, last) == ("", "Yes")


def test_an_answer_that_ends_within_its_folded_thinking() -> None:
    screen = Screen()
    answer = answering(screen, folds=True)
    answer.add("", "one two")
    answer.end()
    assert screen.text.endswith("2 words (/thinking shows them)")


def test_a_call_stands_below_the_text() -> None:
    screen = Screen(columns=100)
    answer = answering(screen)
    answer.add("Text")
    answer.add("", "", [{"function": {"name": "f", "arguments": {"a": 1}}}])
    answer.end()
    assert screen.lines[:3] == [
        "Text",
        "",
        "Model called a non-existent function 'f()' with arguments: {\"a\":1}",
    ]


def test_lines_that_a_narrower_terminal_has_wrapped_are_replaced() -> None:
    written: list[str] = []
    sizes = iter([(60, 24), (30, 24)])
    live = LiveLines(written.append, lambda: next(sizes))
    live.show((), ["above", "x" * 59])
    live.show((), ["above", "y"])
    # The line took two rows.
    assert "\x1b[1A\r" in written[-1]
