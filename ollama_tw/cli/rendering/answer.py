"""An answer whose Markdown is rendered while it arrives."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from ollama_tw.cli.answer import CONTROLS, Answer, Style
from ollama_tw.cli.rendering.blocks import Blocks
from ollama_tw.cli.rendering.live import LiveLines
from ollama_tw.cli.rendering.markdown import Renderer
from ollama_tw.cli.terminal import size_of

_INTERVAL_SECONDS = 0.04
# A block that takes long to render, as a long program does, is drawn less often.
_COST_FACTOR = 4
_FOLDED_LINES = 4
_FOLDED_CHARACTERS = 2000


class RenderedAnswer(Answer):
    """Prints blocks that have ended once, and redraws the incomplete one.

    ``style.folds`` shows the end of the thinking only, and one line when it is done.
    """

    def __init__(
        self, style: Style, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(style, stream)
        self._clock = clock
        self._renderer = Renderer(self._stream)
        self._blocks = Blocks()
        self._live = LiveLines(self._write, lambda: size_of(self._stream))
        self._undrawn = ""
        self._next_drawing = 0.0
        self._thinks_since = 0.0
        self._follows_content = False

    def end(self) -> None:
        """Draw what is left of the answer."""
        super().end()
        self._finish_content()

    def _begin_thinking(self) -> None:
        self._finish_content()
        self._separate()
        if self._style.folds:
            self._thinks_since = self._clock()
        else:
            super()._begin_thinking()

    def _show_thinking(self, text: str) -> None:
        if not self._style.folds:
            super()._show_thinking(text)
        elif (began := self._clock()) >= self._next_drawing:
            text = self.thinking[-_FOLDED_CHARACTERS:].translate(CONTROLS).strip("\n")
            lines = self._renderer.dimmed(text, self._columns())
            self._live.show((), ["Thinking...", *lines[-_FOLDED_LINES:]], tail=True)
            self._has_drawn(began)

    def _finish_thinking(self) -> None:
        if self._style.folds:
            self._fold()
            self._write("\n\n")
        else:
            super()._finish_thinking()

    def _break_off_thinking(self) -> None:
        if self._style.folds:
            self._fold()
        else:
            super()._break_off_thinking()

    def _fold(self) -> None:
        seconds = self._clock() - self._thinks_since
        line = f"Thought for {seconds:.1f} s, {len(self.thinking.split())} words (/thinking shows them)"
        self._live.show(self._renderer.dimmed(line, self._columns()))

    def _show_content(self, text: str) -> None:
        self._undrawn += text
        if (began := self._clock()) < self._next_drawing:
            return
        ended = self._lines(self._blocks.add(self._undrawn))[0]
        current, may_change = self._lines(self._blocks.current)
        self._undrawn = ""
        if current or ended:
            self._live.show([*ended, *([""] if ended else [])], current or [""], tail=may_change)
        self._has_drawn(began)

    def _show_call(self, call: Mapping[str, Any]) -> None:
        self._finish_content()
        self._separate()
        super()._show_call(call)

    def _finish_content(self) -> None:
        ended = self._blocks.add(self._undrawn)
        self._undrawn = ""
        if lines := self._lines([*ended, *self._blocks.end()])[0]:
            self._live.show(lines)
            self._follows_content = True

    def _separate(self) -> None:
        """Begin a paragraph after the content."""
        if self._follows_content:
            self._write("\n\n")
            self._follows_content = False

    def _lines(self, blocks: Sequence[str]) -> tuple[list[str], bool]:
        """Return the lines of blocks, and whether more text may change all of the last one's."""
        lines: list[str] = []
        may_change = False
        for block in blocks:
            of_block, may_change = self._renderer.block(block, self._columns())
            lines += [*([""] if lines and of_block else []), *of_block]
        return lines, may_change

    def _columns(self) -> int:
        return size_of(self._stream)[0]

    def _has_drawn(self, began: float) -> None:
        now = self._clock()
        self._next_drawing = now + max(_INTERVAL_SECONDS, _COST_FACTOR * (now - began))
