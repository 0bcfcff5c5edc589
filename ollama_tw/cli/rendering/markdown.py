"""Markdown as lines for a terminal, by rich."""

from collections.abc import Sequence
from typing import ClassVar, TextIO

from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import BlockQuote, CodeBlock, Heading, ListItem, Markdown, MarkdownElement, TableElement
from rich.segment import Segment
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ollama_tw.cli.rendering.blocks import PARSER
from ollama_tw.cli.width import visible

_CODE_THEME = "ansi_dark"
_CODE_INDENT = 2


class _Code(CodeBlock):
    """Code in the colours of the terminal, indented."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Syntax(
            str(self.text).rstrip(),
            self.lexer_name,
            theme=self.theme,
            word_wrap=True,
            background_color="default",
            padding=(0, 0, 0, _CODE_INDENT),
        )


class _Heading(Heading):
    """A heading at the left margin."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _Quote(BlockQuote):
    """A quotation, whose bar is in ASCII where the terminal has no other characters."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return _in_ascii(super().__rich_console__(console, options), options, "▌", ">")


class _Item(ListItem):
    """An item of a list, whose bullet is in ASCII where the terminal has no other characters."""

    def render_bullet(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return _in_ascii(super().render_bullet(console, options), options, "•", "-")

    def render_number(
        self, console: Console, options: ConsoleOptions, number: int, last_number: int
    ) -> RenderResult:
        # Numbers that come later do not move those that are on the screen.
        return super().render_number(console, options, number, number)


class _Table(TableElement):
    """A table, whose cells are wrapped and not cut off on a narrow terminal."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table):
                for column in table.columns:
                    column.overflow = "fold"
            yield table


class _Document(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _Heading,
        "blockquote_open": _Quote,
        "list_item_open": _Item,
        "table_open": _Table,
    }

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__("", code_theme=_CODE_THEME, hyperlinks=False)
        self.parsed = tokens


class Renderer:
    """Renders blocks for the terminal of ``stream``: its colours and its encoding."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(
            file=stream, force_terminal=True, legacy_windows=False, highlight=False, markup=False, emoji=False
        )

    def block(self, text: str, columns: int) -> tuple[list[str], bool]:
        """Return the lines of one block of Markdown, and whether more text may change all of them."""
        tokens = PARSER.parse(text)
        for token in tokens:
            if token.children:
                token.children = _inline(token.children)
        may_change = any(token.type == "table_open" for token in tokens)
        return self._lines(_Document(tokens), columns), may_change

    def dimmed(self, text: str, columns: int) -> list[str]:
        """Return the lines of plain text, wrapped and dimmed."""
        return self._lines(Text(text, style="dim"), columns)

    def _lines(self, content: Markdown | Text, columns: int) -> list[str]:
        with self._console.capture() as capture:
            # A terminal may begin a new line after a character in the last column.
            self._console.print(content, width=max(columns - 1, 1))
        lines = [line.rstrip() for line in capture.get().split("\n")]
        shown = [at for at, line in enumerate(lines) if visible(line).strip()]
        return lines[shown[0] : shown[-1] + 1] if shown else []


def _inline(tokens: Sequence[Token]) -> list[Token]:
    """Return the parts of a line of text as they are rendered.

    Line breaks of the text are kept, as models mean them; images become links; an address that is its own
    text is text.
    """
    result: list[Token] = []
    for token in tokens:
        if token.type == "softbreak":
            result.append(Token("hardbreak", "br", 0))
        elif token.type == "image":
            opening = Token("link_open", "a", 1, attrs={"href": token.attrs.get("src", "")})
            text = Token("text", "", 0, content=token.content or "image")
            result += [opening, text, Token("link_close", "a", -1)]
        elif token.type == "link_close" and _is_own_text(result[-2:]):
            del result[-2]
        else:
            result.append(token)
    return result


def _is_own_text(last: Sequence[Token]) -> bool:
    return (
        len(last) == 2
        and last[0].type == "link_open"
        and last[0].attrs.get("href") in (last[1].content, f"mailto:{last[1].content}")
    )


def _in_ascii(segments: RenderResult, options: ConsoleOptions, mark: str, replacement: str) -> RenderResult:
    for segment in segments:
        if options.ascii_only and isinstance(segment, Segment) and mark in segment.text:
            yield Segment(segment.text.replace(mark, replacement), segment.style)
        else:
            yield segment
