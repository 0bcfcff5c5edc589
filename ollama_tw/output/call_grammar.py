"""Grammars of tool calls in the layout of a model's family, from its description.

The stream parser reads by the same description what these grammars hold the model to.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.check import check_rules
from ollama_tw.grammar.gbnf import EMPTY, Literal, Node, Repeat, RuleBook, chars, choice, optional, seq
from ollama_tw.grammar.tokens import Tokens, json_text
from ollama_tw.grammar.until import text_through
from ollama_tw.interfaces import LazyGrammar
from ollama_tw.output.argument_grammar import Parameters, gemma, mark, python, tagged
from ollama_tw.output.description import CallLayout, Description, IdPlace, Notation, Shape, Turns
from ollama_tw.output.tool_choice import ToolChoice
from ollama_tw.wire.native import Note, ignore

_ID = Repeat(chars("09AZaz..::__--"), 1, 64)
_SPACE = Repeat(chars("\t\n\r\r  "), 0, 4)

# A text that is found in prose is no sign of a call.
_MIN_SIGN = 3


_CACHED = 64
"""Grammars that are kept: an agent sends the same tools with every request."""


def call_grammar(
    description: Description,
    tools: Sequence[Mapping[str, Any]],
    choice: ToolChoice,
    opened: bool | None,
    note: Note = ignore,
) -> str:
    """Return the grammar of a reply that must call, cached. See :func:`required_calls`."""
    grammar, unenforced = _required(description, json.dumps(tools), choice, opened)
    for text in unenforced:
        note(text)
    return grammar


def lazy_call_grammar(
    description: Description,
    tools: Sequence[Mapping[str, Any]],
    choice: ToolChoice,
    opened: bool | None,
    note: Note = ignore,
) -> LazyGrammar | None:
    """Return the grammar of the calls of a reply that may call, cached. See :func:`lazy_calls`."""
    grammar, unenforced = _lazy(description, json.dumps(tools), choice.parallel, opened)
    for text in unenforced:
        note(text)
    return grammar


@lru_cache(maxsize=_CACHED)
def _required(
    description: Description, tools: str, choice: ToolChoice, opened: bool | None
) -> tuple[str, list[str]]:
    wanted = callable_tools(json.loads(tools), choice.required)
    noted: list[str] = []
    grammar = required_calls(description, wanted, parallel=choice.parallel, opened=opened, note=noted.append)
    return grammar, noted


@lru_cache(maxsize=_CACHED)
def _lazy(
    description: Description, tools: str, parallel: bool, opened: bool | None
) -> tuple[LazyGrammar | None, list[str]]:
    wanted = callable_tools(json.loads(tools))
    noted: list[str] = []
    if not wanted:
        return None, noted
    grammar = lazy_calls(description, wanted, parallel=parallel, opened=opened, note=noted.append)
    return grammar, noted


@dataclass(frozen=True)
class Tool:
    """A tool that may be called."""

    name: str
    parameters: object


def callable_tools(tools: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> list[Tool]:
    """Return the request's ``tools`` of these names, all without ``names``; malformed ones are skipped."""
    found = []
    for tool in tools:
        function = tool.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(function, Mapping) and isinstance(name, str) and name and name in (names or (name,)):
            found.append(Tool(name, function.get("parameters")))
    return found


def required_calls(
    description: Description,
    tools: Sequence[Tool],
    *,
    parallel: bool = True,
    opened: bool | None = None,
    note: Note = ignore,
) -> str:
    """Return the grammar of a reply that is one call, or with ``parallel`` several, after any thinking.

    ``opened`` is True if the prompt has opened the thinking, None if there is no thinking. A model without
    a layout of its own calls by a JSON object. ``note`` gets what is not enforced.
    Raises :class:`OllamaError` 400 if the grammar is too large.
    """
    calls = _Calls(description.calls or CallLayout(), tools, description.turns, parallel=parallel)
    book = calls.tokens.book
    root = book.fresh("root")
    before = calls.before(description, opened=opened)
    book.define(root, seq(_SPACE, *before, calls.header(), calls.whole()))
    calls.tell(note)
    return _checked(book)


def lazy_calls(
    description: Description,
    tools: Sequence[Tool],
    *,
    parallel: bool = True,
    opened: bool | None = None,
    note: Note = ignore,
) -> LazyGrammar | None:
    """Return the grammar that holds a reply from the beginning of its first call on.

    None if no text marks that beginning, or for a grammar that is too large. ``note`` gets what is not
    enforced.
    """
    layout = description.calls
    if layout is None:
        return None
    calls = _Calls(layout, tools, description.turns, parallel=parallel)
    signs = calls.signs()
    if not signs:
        return None
    calls.tell(note)
    book = calls.tokens.book
    root = book.fresh("root")
    book.define(root, choice(signs.values()))
    opening = closing = ""
    if description.thinking is not None and opened is not None:
        closing = description.thinking.close.strip()
        opening = "" if opened else description.thinking.open.strip()
    try:
        return LazyGrammar(_checked(book), tuple(signs), closing, opening)
    except OllamaError as error:
        note(f"the schemas of the tools are not enforced: {error}")
        return None


def _checked(book: RuleBook) -> str:
    check_rules(book.rules)
    return book.text()


class _Calls:
    """Rules of the calls of some tools in one layout."""

    def __init__(
        self, layout: CallLayout, tools: Sequence[Tool], turns: Turns | None, *, parallel: bool
    ) -> None:
        self.tokens = Tokens(RuleBook())
        self._layout = layout
        self._tools = tools
        self._turns = turns
        self._parameters: list[Parameters] = []
        # Without a text between them, objects that begin a reply cannot be distinguished.
        self._parallel = parallel and (layout.array or not layout.leads or bool(layout.separator))

    def tell(self, note: Note) -> None:
        """Pass to ``note`` what the rules that were made so far do not enforce."""
        for parameters in self._parameters:
            for text in parameters.unenforced:
                note(text)

    def _of(self, tool: Tool) -> Parameters:
        parameters = Parameters(tool.name, tool.parameters)
        self._parameters.append(parameters)
        return parameters

    def before(self, description: Description, *, opened: bool | None) -> list[Node]:
        """Return what precedes the calls: thinking, and the headers of further messages."""
        book, turns = self.tokens.book, self._turns
        if description.thinking is None or opened is None:
            return [self._empty_answer(description)]
        if turns is not None:
            closed = text_through(turns.closes, book, "message")
            headers = choice(seq(mark(f" {text}"), mark(turns.header_end)) for text in turns.thinking)
            message = book.rule(seq(headers, closed, mark(turns.open)), "thought")
            return [Repeat(message, 0, None)]
        tags = description.thinking
        thought = seq(text_through([tags.close.strip()], book, "thought"), _SPACE)
        if tags.open.strip() and not opened:
            thought = optional(seq(tags.open.strip(), thought))
        return [thought, self._empty_answer(description)]

    @staticmethod
    def _empty_answer(description: Description) -> Node:
        """Return the marks of an answer without text, of which the prompt may have written the first."""
        content = description.content
        if content is None or description.turns is not None or not content.close.strip():
            return EMPTY
        opening = optional(mark(content.open)) if content.open.strip() else EMPTY
        return optional(seq(opening, mark(content.close)))

    def header(self) -> Node:
        """Return the header of the message with the calls, if it is no part of their layout."""
        turns, layout = self._turns, self._layout
        if turns is None or turns.recipient in f"{layout.section.open}{layout.call.open}{layout.name.open}":
            return EMPTY
        return seq(mark(f" {turns.recipient}"), _ID, mark(turns.header_end))

    def whole(self) -> Node:
        """Return all calls of a reply, from the first text of the layout on."""
        layout, header = self._layout, self.header()
        opening, closing = mark(layout.section.open), seq(self.tokens.space(), mark(layout.section.close))
        if layout.bare:
            opening = optional(opening)
        if layout.shape is not Shape.NAME_FIRST:
            # Some models end their turn after the bracket.
            closing = optional(closing)
        calls = self.tokens.book.rule(seq(opening, self._items(), closing), "calls")
        if header == EMPTY or self._turns is None or not self._parallel:
            return calls
        ends = choice(mark(text) for text in self._turns.closes)
        return seq(calls, Repeat(seq(ends, mark(self._turns.open), header, calls), 0, None))

    def signs(self) -> dict[str, Node]:
        """Return the texts that certainly begin a call, each with what has to be there from it on."""
        layout = self._layout
        if not layout.leads:
            found = {layout.opening.strip(): self.whole()}
            # Models often omit the tag around a call whose name has a tag of its own.
            inner = layout.name.open.strip()
            if layout.call.open and not layout.section.open and len(inner) > _MIN_SIGN and inner[0] == "<":
                found[inner] = seq(self._call, mark(layout.call.close))
            return found | (self._names() if layout.bare else {})
        return self._names()

    def _names(self) -> dict[str, Node]:
        """Return the beginnings of objects with the names of the tools."""
        layout = self._layout
        if layout.array or layout.shape is Shape.NAME_FIRST:
            return {}
        quoted = [json_text(tool.name) for tool in self._tools]
        if layout.shape is Shape.KEYED:
            return {"{" + name: self.whole() for name in quoted}
        key = json_text(layout.name_key)
        return {"{" + key + ":" + space + name: self.whole() for name in quoted for space in ("", " ")}

    def _items(self) -> Node:
        layout = self._layout
        close = mark(layout.call.close)
        if self._turns is not None and layout.call.close in self._turns.closes:
            # The token of this text ends the generation.
            close = optional(close)
        call = seq(self._call, close)
        item = self.tokens.book.rule(seq(mark(layout.call.open), call), "item")
        first: Node = item
        if self._turns is not None and layout.call.open == self._turns.open:
            # The prompt has written it for the first call.
            first = choice([item, call])
        space = self.tokens.space()
        separator = seq(space, ",", space) if layout.array else mark(layout.separator)
        more = Repeat(self.tokens.book.rule(seq(separator, item), "next"), 0, None)
        items = seq(first, more) if self._parallel else first
        return seq("[", space, items, space, "]") if layout.array else items

    @cached_property
    def _call(self) -> Node:
        shapes: dict[Shape, Callable[[Tool], Node]] = {
            Shape.OBJECT: self._object,
            Shape.KEYED: self._keyed,
            Shape.NAME_FIRST: self._name_first,
        }
        shape = shapes[self._layout.shape]
        return self.tokens.book.rule(choice(shape(tool) for tool in self._tools), "call")

    def _object(self, tool: Tool) -> Node:
        layout, space = self._layout, self.tokens.space()
        arguments = self._of(tool).json(self.tokens)
        members = [self._member(layout.name_key, Literal(json_text(tool.name)))]
        members.append(self._member(layout.arguments_key, arguments))
        inner = seq(members[0], ",", space, members[1])
        if layout.wrapper:
            kind = optional(seq(self._member("type", Literal('"function"')), ",", space))
            inner = seq(kind, self._member(layout.wrapper, seq("{", space, inner, space, "}")))
        if layout.id_place is IdPlace.FIELD:
            number = self._member(layout.id_key, choice([seq('"', _ID, '"'), self.tokens.integer()]))
            # The description has no order of the members.
            inner = choice([seq(number, ",", space, inner), seq(inner, ",", space, number), inner])
        return seq("{", space, inner, space, "}")

    def _keyed(self, tool: Tool) -> Node:
        space = self.tokens.space()
        arguments = self._of(tool).json(self.tokens)
        return seq("{", space, self._member(tool.name, arguments), space, "}")

    def _member(self, key: str, value: Node) -> Node:
        space = EMPTY if self._layout.compact else self.tokens.space()
        return seq(json_text(key), ":", space, value)

    def _name_first(self, tool: Tool) -> Node:
        layout = self._layout
        number = seq(mark(layout.id.open), _ID, mark(layout.id.close))
        places = {place: number if layout.id_place is place else EMPTY for place in IdPlace}
        name: Node = Literal(tool.name)
        if layout.id_place is IdPlace.IN_NAME:
            name = seq("functions.", tool.name, ":", Repeat(chars("09"), 1, 6))
        return seq(
            places[IdPlace.BEFORE_NAME],
            mark(layout.name.open),
            name,
            mark(layout.name.close),
            places[IdPlace.AFTER_NAME],
            self._arguments(tool),
            places[IdPlace.AFTER_ARGUMENTS],
        )

    def _arguments(self, tool: Tool) -> Node:
        layout, parameters = self._layout, self._of(tool)
        match layout.notation:
            case Notation.TAGGED if layout.tagged is not None:
                ends = (layout.call.close.strip(), layout.section.close.strip())
                return tagged(parameters, layout.tagged, ends, self.tokens)
            case Notation.PYTHON:
                return python(parameters, self.tokens)
            case Notation.GEMMA:
                return gemma(parameters, layout, self.tokens)
        return parameters.json(self.tokens)
