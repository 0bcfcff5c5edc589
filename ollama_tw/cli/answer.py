"""An answer on standard output: thinking, text wrapped at words, tool calls.

Source: ollama: cmd/cmd.go, displayResponse, thinkingOutputOpeningText, renderToolCalls.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TextIO

from ollama_tw.cli.terminal import is_dumb, size_of
from ollama_tw.cli.width import character_width, text_width
from ollama_tw.golang import json as golang_json
from ollama_tw.golang.durations import SECOND, format_duration

_GREY, _BOLD, _DEFAULT = "\x1b[38;5;245m", "\x1b[1m", "\x1b[0m"
_LEAST_COLUMNS = 10
_BLANKS = " \t\n\r"
# Characters that would control the terminal: a model writes text only.
CONTROLS: Final = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {*map(ord, _BLANKS)})
_MARGIN = 5


class Wrapper:
    """Wraps text that arrives in pieces at its words.

    A word that goes beyond the margin is moved to a new line. ``columns`` is the width of the terminal, 0 for
    text that is not wrapped.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns if columns >= _LEAST_COLUMNS else 0
        self._word = ""
        self._width = 0
        self._flows = False

    def wrapped(self, text: str) -> str:
        """Return the characters that show ``text`` where the last piece ended."""
        if not self._columns:
            return text
        return "".join(map(self._character, text))

    def _character(self, character: str) -> str:
        width = character_width(character)
        if self._flows and character not in _BLANKS:
            self._width = (self._width + width) % self._columns
            return character
        self._flows = False
        if self._width + 1 <= self._columns - _MARGIN:
            self._width += width
            if width > 1 or character in " \t":
                self._word = ""
            elif character in "\n\r":
                self._word, self._width = "", 0
            else:
                self._word += character
            return character
        if character in _BLANKS:
            # The word still fits: the line ends here.
            self._word, self._width = "", 0
            return "\n"
        word_width = text_width(self._word)
        if word_width > self._columns - 2 * _MARGIN:
            # A word of nearly a line is not moved; the terminal wraps it.
            self._flows, self._word = True, ""
            self._width = (self._width + width) % self._columns
            return character
        # The word is erased here and repeated on the next line.
        back = f"\x1b[{word_width}D" if word_width else ""
        self._width = word_width + width
        word, self._word = self._word, self._word + character if width < 2 else ""
        return f"{back}\x1b[K\n{word}{character}"


@dataclass
class Style:
    """Format of a printed answer.

    ``columns`` is 0 where lines are not wrapped; ``plain`` is without colours; ``renders`` is true for
    rendered Markdown, and ``folds`` for its thinking in one line. Characters that control a terminal are
    left out of answers on one.
    """

    columns: int = 0
    plain: bool = True
    is_terminal: bool = False
    hides_thinking: bool = False
    renders: bool = False
    folds: bool = False

    @classmethod
    def of(
        cls, stream: TextIO, *, wraps: bool, hides_thinking: bool, renders: bool = False, folds: bool = False
    ) -> "Style":
        """Return the style for ``stream``, which is plain unless it is a terminal with colours.

        Markdown is rendered on terminals on which lines are wrapped, too.
        """
        is_terminal = stream.isatty()
        columns = size_of(stream)[0] if wraps and is_terminal and not is_dumb() else 0
        colours = is_terminal and not is_dumb() and not os.environ.get("NO_COLOR")
        renders = renders and columns >= _LEAST_COLUMNS
        return cls(columns, not colours, is_terminal, hides_thinking, renders, folds)


class Answer:
    """Prints one answer as its records arrive; ``thinking`` and ``content`` are what has arrived."""

    def __init__(self, style: Style, stream: TextIO | None = None) -> None:
        self._style = style
        self._stream = sys.stdout if stream is None else stream
        self._wrapper = Wrapper(style.columns)
        self._thinks = False
        self.thinking = ""
        self.content = ""

    @staticmethod
    def of(style: Style) -> "Answer":
        """Return an answer in ``style`` on standard output."""
        if not style.renders:
            return Answer(style)
        from ollama_tw.cli.rendering.answer import RenderedAnswer

        return RenderedAnswer(style)

    def add(self, content: str, thinking: str = "", tool_calls: Sequence[Mapping[str, Any]] = ()) -> None:
        """Print the next piece."""
        self.content += content
        self.thinking += thinking
        if self._style.is_terminal:
            content, thinking = content.translate(CONTROLS), thinking.translate(CONTROLS)
        if thinking and not self._style.hides_thinking:
            if not self._thinks:
                self._thinks = True
                self._begin_thinking()
            self._show_thinking(thinking)
        if self._thinks and (content or tool_calls):
            self._thinks = False
            self._finish_thinking()
        if content:
            self._show_content(content)
        for call in tool_calls:
            self._show_call(call)

    def end(self) -> None:
        """Restore the colour after an answer that ended within its thinking."""
        if self._thinks:
            self._thinks = False
            self._break_off_thinking()

    def _begin_thinking(self) -> None:
        self._write(self._highlighted("Thinking...\n") + ("" if self._style.plain else _GREY))

    def _show_thinking(self, text: str) -> None:
        self._write(self._wrapper.wrapped(text))

    def _finish_thinking(self) -> None:
        self._end_line_of_thinking()
        self._write(self._highlighted("...done thinking.\n\n"))
        self._wrapper = Wrapper(self._style.columns)

    def _break_off_thinking(self) -> None:
        self._end_line_of_thinking()
        self._write("" if self._style.plain else _DEFAULT)

    def _show_content(self, text: str) -> None:
        self._write(self._wrapper.wrapped(text))

    def _show_call(self, call: Mapping[str, Any]) -> None:
        self._write(_call_text(call))

    def _end_line_of_thinking(self) -> None:
        if not self.thinking.endswith("\n"):
            self._write("\n")

    def _highlighted(self, text: str) -> str:
        return text if self._style.plain else f"{_GREY}{_BOLD}{text}{_DEFAULT}"

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()


def _call_text(call: Mapping[str, Any]) -> str:
    function = call.get("function") or {}
    arguments = golang_json.encode(function.get("arguments") or {}).decode()
    return (
        f"Model called a non-existent function '{function.get('name', '')}()' with arguments: {arguments}\n"
    )


def summary(record: Mapping[str, Any]) -> str:
    """Return the lines of ``--verbose`` about the last record of an answer; values that are 0 are left out.

    Source: ollama: api/types.go, Metrics.Summary.
    """
    lines: list[tuple[str, str]] = []
    for key, title in (("total_duration", "total duration:"), ("load_duration", "load duration:")):
        if record.get(key, 0) > 0:
            lines.append((title, format_duration(record[key])))
    for prefix, title in (("prompt_eval", "prompt eval"), ("eval", "eval")):
        count, duration = record.get(f"{prefix}_count", 0), record.get(f"{prefix}_duration", 0)
        if count > 0:
            lines.append((f"{title} count:", f"{count} token(s)"))
        if duration > 0:
            lines.append((f"{title} duration:", format_duration(duration)))
            lines.append((f"{title} rate:", f"{count / (duration / SECOND):.2f} tokens/s"))
    return "".join(f"{title:<21} {text}\n" for title, text in lines)
