"""Grammars of values in the notations of Python and Gemma.

They follow their schemas as far as types, members and items go.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_tw.grammar.gbnf import (
    EMPTY,
    Chars,
    Literal,
    Node,
    Ref,
    Repeat,
    RuleBook,
    chars,
    choice,
    complement,
    optional,
    seq,
)
from ollama_tw.grammar.tokens import Tokens, json_text
from ollama_tw.grammar.until import text_through

_MAX_DEPTH = 4

NAME = Repeat(chars("09AZaz..__--"), 1, 64)
"""Name of an argument that is not declared."""


def listed(items: Sequence[tuple[Node, bool]], separator: Node, more: Node | None, book: RuleBook) -> Node:
    """Return the items in order, those that are not required optionally, then any number of ``more``.

    :param items: each with True if it is required.
    """
    # From the end: what follows an item if there is one before it, and if there is none.
    following: Node = EMPTY if more is None else book.repeat(seq(separator, more), 0, None, "more")
    leading: Node = EMPTY if more is None else optional(seq(more, following))
    for item, required in reversed(items):
        here = seq(item, following)
        if required:
            leading, following = here, seq(separator, here)
        else:
            leading = choice([here, leading]) if leading != EMPTY else optional(here)
            following = (
                choice([seq(separator, here), following])
                if following != EMPTY
                else optional(seq(separator, here))
            )
        leading = leading if leading == EMPTY else book.rule(leading, "arguments")
        following = following if following == EMPTY else book.rule(following, "further")
    return leading


@dataclass(frozen=True)
class Words:
    """Notation of values: how a string, a key and the constants are written."""

    string: Callable[[], Node]
    constant: Callable[[object], Node]
    key: Callable[[str], Node]
    any_key: Node
    equals: str
    true: str = "true"
    false: str = "false"
    null: str = "null"


def python_words(tokens: Tokens) -> Words:
    """Return the words of Python's literals."""

    def quoted(mark: str) -> Node:
        plain = Chars(complement([(0, 0x1F), (ord(mark), ord(mark)), (0x5C, 0x5C)]))
        escape = seq("\\", Chars(tuple((ord(each), ord(each)) for each in "\\'\"nrt")))
        return seq(mark, Repeat(tokens.book.rule(choice([plain, escape]), "char"), 0, None), mark)

    def string() -> Node:
        return tokens.book.rule(choice([quoted('"'), quoted("'")]), "string")

    def constant(value: object) -> Node:
        if isinstance(value, str):
            double = json_text(value)
            single = "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
            return choice([Literal(double), Literal(single)])
        return Literal(repr(value))

    key = tokens.book.rule(choice([quoted('"'), quoted("'")]), "string")
    return Words(string, constant, lambda name: constant(name), key, ":", "True", "False", "None")


def gemma_words(quote: str, tokens: Tokens) -> Words:
    """Return the words of Gemma's notation, in which ``quote`` stands on both sides of a string."""

    def string() -> Node:
        return seq(quote, text_through([quote], tokens.book, "quoted"))

    def constant(value: object) -> Node:
        return Literal(f"{quote}{value}{quote}" if isinstance(value, str) else json_text(value))

    return Words(string, constant, Literal, NAME, ":")


class Values:
    """Grammars of values by their schemas, as far as types, members and items go."""

    def __init__(self, words: Words, tokens: Tokens) -> None:
        self._words = words
        self._tokens = tokens
        self._any: Node | None = None
        self._strings: Node | None = None

    def of(self, schema: object, depth: int = 0) -> Node:
        """Return the values of ``schema``, any value where it has nothing that can be enforced."""
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return self.any()
        if "enum" in schema and isinstance(schema["enum"], list) and schema["enum"]:
            return choice(self._words.constant(value) for value in schema["enum"])
        if not {"type", "anyOf", "oneOf"} & schema.keys() or {"$ref", "allOf"} & schema.keys():
            return self.any()
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return choice(self.of(branch, depth + 1) for branch in schema[keyword])
        types = schema["type"]
        return choice(
            self._of_type(kind, schema, depth) for kind in ([types] if isinstance(types, str) else types)
        )

    def any(self) -> Node:
        """Return any value."""
        if self._any is None:
            name = self._tokens.book.fresh("anything")
            self._any = reference = Ref(name)
            kinds = ("string", "number", "boolean", "null")
            scalars = [self._of_type(kind, {}, 0) for kind in kinds]
            member = seq(self._words.any_key, self._words.equals, self._tokens.space(), reference)
            body = choice([*scalars, self._enclosed("{", member, "}"), self._enclosed("[", reference, "]")])
            self._tokens.book.define(name, body)
        return self._any

    def _enclosed(self, opening: str, item: Node, closing: str) -> Node:
        further = Repeat(seq(",", self._tokens.space(), item), 0, None)
        return seq(opening, optional(seq(item, further)), closing)

    def _of_type(self, kind: str, schema: Mapping[str, Any], depth: int) -> Node:
        words = self._words
        match kind:
            case "string":
                if self._strings is None:
                    self._strings = words.string()
                return self._strings
            case "integer":
                return self._tokens.integer()
            case "number":
                return self._tokens.number()
            case "boolean":
                return choice([Literal(words.true), Literal(words.false)])
            case "null":
                return Literal(words.null)
            case "array":
                return self._enclosed("[", self.of(schema.get("items"), depth + 1), "]")
        return self._object(schema, depth)

    def _object(self, schema: Mapping[str, Any], depth: int) -> Node:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            member = seq(self._words.any_key, self._words.equals, self._tokens.space(), self.any())
            return self._enclosed("{", member, "}")
        required = schema.get("required")
        items = [
            (
                seq(
                    self._words.key(name), self._words.equals, self._tokens.space(), self.of(value, depth + 1)
                ),
                isinstance(required, list) and name in required,
            )
            for name, value in properties.items()
        ]
        return seq("{", listed(items, seq(",", self._tokens.space()), None, self._tokens.book), "}")
