"""Grammars of JSON's tokens: white space, characters of strings, literals, any value.

White space and digits are bounded, since small models otherwise tend to repeat them until the end of
the reply. Source: RFC 8259.
"""

import json
from collections.abc import Iterable, Mapping

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.gbnf import (
    EMPTY,
    Chars,
    Choice,
    Literal,
    Node,
    Ref,
    Repeat,
    RuleBook,
    Seq,
    chars,
    choice,
    complement,
    normalised,
    optional,
    seq,
)

INTEGER_DIGITS = 18
FRACTION_DIGITS = 20

DIGIT = chars("09")
NON_ZERO = chars("19")
_HEX = chars("09afAF")

SURROGATES = (0xD800, 0xDFFF)

# Characters that must be escaped in a JSON string, and their escapes.
_SHORT_ESCAPES = {0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\"}
_ESCAPED = {code: f"\\u{code:04x}" for code in range(0x20)} | _SHORT_ESCAPES

_PLAIN = complement([(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), SURROGATES])

# The escapes of one code point, without those of surrogates.
_ESCAPE = Seq(
    (
        Literal("\\"),
        Choice(
            (
                Chars(tuple((ord(mark), ord(mark)) for mark in '"\\/bfnrt')),
                Seq(
                    (
                        Literal("u"),
                        Choice(
                            (
                                Seq((chars("09acefACEF"), Repeat(_HEX, 3, 3))),
                                Seq((chars("ddDD"), chars("07"), Repeat(_HEX, 2, 2))),
                            )
                        ),
                    )
                ),
            )
        ),
    )
)


class Tokens:
    """Rules of JSON's tokens in one rule book, added at their first use."""

    def __init__(self, book: RuleBook) -> None:
        self.book = book
        self._value: Ref | None = None

    def space(self) -> Ref:
        """Return white space: none, a blank, or a line break with its indentation."""
        indented = seq("\n", Repeat(chars("  \t\t"), 0, 20))
        return self.book.rule(choice([EMPTY, Literal(" "), indented]), "ws")

    def character(self) -> Ref:
        """Return one code point of a string, plain or escaped."""
        return self.book.rule(Choice((Chars(_PLAIN), _ESCAPE)), "char")

    def string(self, minimum: int = 0, maximum: int | None = None) -> Node:
        """Return a string of ``minimum`` to ``maximum`` code points."""
        body = self.book.repeat(self.character(), minimum, maximum, "char")
        return self.book.rule(seq('"', body, '"'), "string")

    def integer(self) -> Ref:
        """Return an integer of at most :data:`INTEGER_DIGITS` digits."""
        magnitude = seq(NON_ZERO, Repeat(DIGIT, 0, INTEGER_DIGITS - 1))
        return self.book.rule(choice([Literal("0"), seq(optional(Literal("-")), magnitude)]), "integer")

    def number(self) -> Ref:
        """Return a number with bounded digits, with or without an exponent."""
        whole = choice([Literal("0"), seq(NON_ZERO, Repeat(DIGIT, 0, INTEGER_DIGITS - 1))])
        fraction = seq(".", Repeat(DIGIT, 1, FRACTION_DIGITS))
        exponent = seq(chars("EEee"), optional(chars("++--")), optional(Literal("1")), Repeat(DIGIT, 1, 2))
        body = seq(optional(Literal("-")), whole, optional(fraction), optional(exponent))
        return self.book.rule(body, "number")

    def boolean(self) -> Ref:
        """Return either boolean."""
        return self.book.rule(choice([Literal("true"), Literal("false")]), "boolean")

    def value(self) -> Ref:
        """Return any JSON value."""
        if self._value is None:
            self._value = Ref(self.book.fresh("value"))
            scalars = [self.string(), self.number(), self.boolean(), Literal("null")]
            self.book.define(self._value.name, choice([self.any_object(), self.any_array(), *scalars]))
        return self._value

    def any_object(self) -> Ref:
        """Return an object with any members."""
        member = self.book.rule(seq(self.string(), ":", self.space(), self.value()), "member")
        return self.book.rule(self.enclosed("{", self.listed(member), "}"), "object")

    def any_array(self) -> Ref:
        """Return an array of any items."""
        return self.book.rule(self.enclosed("[", self.listed(self.value()), "]"), "array")

    def listed(self, item: Node) -> Node:
        """Return one item or more, separated by commas."""
        return seq(item, Repeat(seq(",", self.space(), item), 0, None))

    def enclosed(self, opening: str, content: Node, closing: str, *, may_be_empty: bool = True) -> Node:
        """Return brackets around ``content``, which must not match the empty text."""
        inside = seq(content, self.space())
        if may_be_empty:
            inside = self.book.optional(inside, "content")
        return seq(opening, self.space(), inside, closing)

    def constant(self, value: object) -> Node:
        """Return a constant, with optional white space between its tokens."""
        match value:
            case Mapping() if value:
                members = [
                    seq(json_text(str(name)), ":", self.space(), self.constant(v))
                    for name, v in value.items()
                ]
                return self._bracketed("{", members, "}")
            case list() | tuple() if value:
                return self._bracketed("[", [self.constant(item) for item in value], "]")
            case _:
                return Literal(json_text(value))

    def _bracketed(self, opening: str, items: list[Node], closing: str) -> Node:
        separated = [part for item in items for part in (Literal(","), self.space(), item)]
        return seq(opening, *separated[1:], self.space(), closing)


def json_text(value: object) -> str:
    """Return ``value`` as compact JSON that can be encoded in UTF-8. Raises :class:`OllamaError` 400."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):
        raise OllamaError(400, "invalid schema: a value is not JSON") from None
    return text


def plain_characters(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return those of the code points that a JSON string may contain without an escape."""
    return complement([*complement(ranges), *complement(_PLAIN)])


def string_characters(ranges: Iterable[tuple[int, int]]) -> Node:
    """Return one of these code points as written inside a JSON string, without surrogates."""
    plain = plain_characters(ranges)
    wanted = normalised(ranges)
    escapes = [
        Literal(text)
        for code, text in _ESCAPED.items()
        if any(first <= code <= last for first, last in wanted)
    ]
    if not escapes and len(plain) == 1 and plain[0][0] == plain[0][1]:
        return Literal(chr(plain[0][0]))
    nodes: list[Node] = [Chars(plain)] if plain else []
    return choice([*nodes, *escapes])
