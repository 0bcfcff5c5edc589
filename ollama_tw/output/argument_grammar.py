"""Grammars of the arguments of a tool call, in each notation.

Arguments stand in the order of the tool's schema; those that are not required may be left out. An argument
whose schema cannot be enforced may have any value, which is logged and noted.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.convert import part_node
from ollama_tw.grammar.document import TYPES, Document, Flat
from ollama_tw.grammar.gbnf import (
    EMPTY,
    Literal,
    Node,
    Repeat,
    RuleBook,
    chars,
    choice,
    optional,
    seq,
)
from ollama_tw.grammar.tokens import Tokens
from ollama_tw.grammar.until import text_through, text_without
from ollama_tw.output.description import HOLE, KEY, CallLayout, TaggedArguments
from ollama_tw.output.value_grammar import NAME, Values, gemma_words, listed, python_words

_log = logging.getLogger("ollama_tw.output")

# A short text that varies, in place of a hole.
_PYTHON = {"boolean": ("True", "False"), "null": ("None",)}

VARYING = Repeat(chars("09AZaz..__--"), 0, 32)


@dataclass(frozen=True)
class Argument:
    """An argument of a tool: its name, its schema, and True if it is required."""

    name: str
    schema: object
    required: bool


class Parameters:
    """The schema of a tool's arguments. ``tool`` is its name, for the log."""

    def __init__(self, tool: str, schema: object) -> None:
        self._tool = tool
        given = schema if isinstance(schema, Mapping) else {}
        self.schema: dict[str, Any] = {**given, "type": "object"}
        properties = given.get("properties")
        required = given.get("required")
        required = required if isinstance(required, list) else []
        properties = properties if isinstance(properties, Mapping) else {}
        self.arguments = [Argument(name, value, name in required) for name, value in properties.items()]
        others = given.get("additionalProperties", not properties)
        self.more = others is not False and others is not None
        """True if there may be arguments that are not declared."""
        self._freed: dict[str, None] = {}
        self._document: Document | None = None
        try:
            self._document = Document(self.schema)
        except OllamaError as error:
            self.arguments, self.more = [], True
            self._free_all(error)

    @property
    def unenforced(self) -> list[str]:
        """Constraints that the arguments may violate, by the grammars that were made so far."""
        noted = () if self._document is None else self._document.unenforced
        return [f"tool {self._tool}: {text}" for text in (*self._freed, *noted)]

    def flat(self, argument: Argument) -> Flat:
        """Return the keywords of an argument's schema, none if it cannot be read."""
        if self._document is None:
            return {}
        try:
            return self._document.flatten(argument.schema, f"#/properties/{argument.name}")
        except OllamaError as error:
            self.free(argument, error)
            return {}

    def free(self, argument: Argument, error: OllamaError) -> None:
        """Note that an argument may have any value."""
        self._note(f"the schema of argument {argument.name} is not enforced: {error}")

    def _free_all(self, error: OllamaError) -> None:
        self._note(f"the schema of the arguments is not enforced: {error}")

    def _note(self, text: str) -> None:
        self._freed[text] = None
        _log.warning("tool %s: %s", self._tool, text)

    def value(self, argument: Argument, tokens: Tokens) -> Node:
        """Return the JSON texts of an argument's value."""
        if self._document is None:
            return tokens.value()
        try:
            # A failed conversion leaves rules behind, to which nothing refers.
            return part_node(self._document, tokens, argument.schema)
        except OllamaError as error:
            self.free(argument, error)
            return tokens.value()

    def json(self, tokens: Tokens) -> Node:
        """Return the JSON objects of the arguments."""
        if self._document is None:
            return tokens.any_object()
        try:
            return part_node(self._document, tokens, self.schema)
        except OllamaError:
            pass
        try:
            schema = self._without_what_fails(self._document)
            return part_node(Document(schema), tokens, schema)
        except OllamaError as error:
            self._free_all(error)
        return tokens.any_object()

    def _without_what_fails(self, document: Document) -> dict[str, Any]:
        kept = {
            name: value
            for name, value in self.schema.items()
            if name in ("$defs", "definitions", "required", "additionalProperties")
        }
        properties: dict[str, Any] = {}
        for argument in self.arguments:
            properties[argument.name] = argument.schema
            try:
                part_node(document, Tokens(RuleBook()), argument.schema)
            except OllamaError as error:
                self.free(argument, error)
                properties[argument.name] = True
        return {**kept, "type": "object", "properties": properties}


def mark(text: str) -> Node:
    """Return the text of a layout; white space at its ends is optional, and a hole is any short text."""
    body = text.strip()
    if not body:
        return optional(Literal(text)) if text else EMPTY
    before, after = text[: text.index(body)], text[text.index(body) + len(body) :]
    parts: list[Node] = []
    for number, part in enumerate(body.split(HOLE)):
        if number:
            parts.append(VARYING)
        parts.append(Literal(part))
    return seq(mark(before), *parts, mark(after))


# A pair of texts around each argument


def tagged(parameters: Parameters, layout: TaggedArguments, ends: Sequence[str], tokens: Tokens) -> Node:
    """Return arguments between tags. A value ends before one of ``ends`` where no tag of its own ends it."""
    tags = _Tags(layout, [text for text in (layout.key.open.strip(), *ends) if text], tokens)
    items = [
        (tags.argument(argument.name, _typed(parameters, argument, tags, tokens)), argument.required)
        for argument in parameters.arguments
    ]
    more = None
    if parameters.more and KEY not in layout.value.close:
        more = tags.argument(NAME, {"": tags.text("")})
    arguments = listed(items, mark(layout.separator), more, tokens.book)
    # Some families write an empty line in the place of arguments.
    return seq(optional(Literal("\n")), arguments)


class _Tags:
    """Parts of tagged arguments."""

    def __init__(self, layout: TaggedArguments, ends: Sequence[str], tokens: Tokens) -> None:
        self._layout = layout
        self._ends = ends
        self._tokens = tokens
        self._words = dict(layout.types)
        self.names_types = HOLE in layout.key.close
        """True if the type of a value is written beside its key."""
        self.encoded = layout.encoded
        """True if texts are written as JSON."""
        self.nests = KEY in layout.value.close
        """True if members and items have tags of their own."""

    def argument(self, name: Node | str, values: Mapping[str, Node]) -> Node:
        """Return an argument; ``values`` are those of each JSON type, under "" for any type."""
        layout = self._layout
        branches = [
            seq(
                mark(layout.key.close.replace(HOLE, self._words.get(kind, HOLE))),
                mark(layout.value.open),
                value,
            )
            for kind, value in values.items()
        ]
        return seq(mark(layout.key.open), name, choice(branches))

    def text(self, name: str) -> Node:
        """Return any text up to the end of the value of an argument of this name."""
        end = self._close(name).strip()
        book = self._tokens.book
        if not end:
            return text_without(self._ends, book, "raw") if self._ends else EMPTY
        return seq(text_through([end], book, "raw"), mark(self._space()))

    def value(self, name: str, value: Node, kinds: Iterable[str]) -> Node:
        """Return ``value`` and the end of the value of an argument of this name.

        Some families write the constants of Python, also where all other values are JSON.
        """
        words = [Literal(word) for kind in kinds for word in _PYTHON.get(kind, ())]
        value = choice([value, *words])
        closed = mark(self._close(name).lstrip())
        return seq(optional(Literal("\n")), value, self._tokens.space(), closed)

    def _close(self, name: str) -> str:
        return self._layout.value.close.replace(KEY, name)

    def _space(self) -> str:
        text = self._layout.value.close
        return text[len(text.rstrip()) :]


def _typed(parameters: Parameters, argument: Argument, tags: _Tags, tokens: Tokens) -> dict[str, Node]:
    """Return the values of an argument by their JSON type, under "" if the type makes no difference."""
    name, flat = argument.name, parameters.flat(argument)
    if "enum" in flat:
        found: dict[str, list[Node]] = {}
        for value in flat["enum"]:
            plain = isinstance(value, str) and not tags.encoded
            literal = Literal(value) if plain else tokens.constant(value)
            kind = _kind_of(value)
            found.setdefault(kind, []).append(tags.value(name, literal, [kind]))
        return {kind: choice(nodes) for kind, nodes in found.items()}
    kinds = _kinds(flat)
    if tags.nests and {"array", "object"} & set(kinds):
        return {"": tags.text(name)}
    if not tags.names_types:
        # A text without quotes may be any other value too.
        if "string" in kinds and not tags.encoded:
            return {"": tags.text(name)}
        return {"": tags.value(name, parameters.value(argument, tokens), kinds)}
    others = [kind for kind in kinds if kind != "string"]
    values = {"string": tags.text(name)} if "string" in kinds else {}
    if others:
        value = tags.value(name, parameters.value(argument, tokens), others)
        values |= dict.fromkeys(others, value)
    return values


def _kinds(flat: Flat) -> tuple[str, ...]:
    """Return the JSON types that a value of a schema may have, perhaps too many."""
    for keyword in ("anyOf", "oneOf"):
        if keyword in flat:
            found: dict[str, None] = {}
            for branch in flat[keyword]:
                own = branch.get("type", TYPES) if isinstance(branch, Mapping) else TYPES
                found |= dict.fromkeys([own] if isinstance(own, str) else own)
            return tuple(found)
    return tuple(flat.get("type", TYPES))


def _kind_of(value: object) -> str:
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "number"
        case None:
            return "null"
        case list():
            return "array"
    return "object"


def python(parameters: Parameters, tokens: Tokens) -> Node:
    """Return ``(KEY=VALUE, …)`` with Python's literals."""
    values = Values(python_words(tokens), tokens)
    items = [
        (seq(argument.name, "=", values.of(parameters.flat(argument))), argument.required)
        for argument in parameters.arguments
    ]
    more = seq(NAME, "=", values.any()) if parameters.more else None
    return seq("(", listed(items, seq(",", tokens.space()), more, tokens.book), ")")


def gemma(parameters: Parameters, layout: CallLayout, tokens: Tokens) -> Node:
    """Return ``{KEY:VALUE,…}`` with bare keys and quoted strings."""
    words = gemma_words(layout.quote, tokens)
    values = Values(words, tokens)
    items = [
        (seq(argument.name, ":", values.of(parameters.flat(argument))), argument.required)
        for argument in parameters.arguments
    ]
    more = seq(words.any_key, ":", values.any()) if parameters.more else None
    return seq("{", listed(items, Literal(","), more, tokens.book), "}")
