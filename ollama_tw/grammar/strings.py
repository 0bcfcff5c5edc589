"""Grammars of strings with a pattern, a format or a length."""

from ollama_tw.grammar.gbnf import EMPTY, Chars, Literal, Node, choice, normalised, seq
from ollama_tw.grammar.pattern import (
    ANY,
    Alternation,
    Class,
    Concatenation,
    Expression,
    PatternError,
    Repetition,
    lengths,
    parse_pattern,
)
from ollama_tw.grammar.tokens import SURROGATES, Tokens, string_characters

_YEAR = "[1-9][0-9]{3}"
_LEAP_YEAR = "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
_DATE = (
    f"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    f"|02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = "[A-Za-z0-9]([A-Za-z0-9]|-[A-Za-z0-9]){0,30}"
_HOST = rf"{_LABEL}(\.{_LABEL}){{0,3}}"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ATOM = "[A-Za-z0-9_%+]"
_CLOCK = "([0-9]{1,6}H([0-9]{1,6}M([0-9]{1,6}S)?)?|[0-9]{1,6}M([0-9]{1,6}S)?|[0-9]{1,6}S)"
_CALENDAR = "([0-9]{1,6}Y([0-9]{1,6}M([0-9]{1,6}D)?)?|[0-9]{1,6}M([0-9]{1,6}D)?|[0-9]{1,6}D)"

FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": f"P({_CALENDAR}(T{_CLOCK})?|T{_CLOCK}|[0-9]{{1,6}}W)",
    "uuid": "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
    "email": rf"{_ATOM}([.-]?{_ATOM}){{0,31}}@{_LABEL}(\.{_LABEL}){{1,3}}",
    "hostname": _HOST,
    "ipv4": rf"{_BYTE}(\.{_BYTE}){{3}}",
    "ipv6": "[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}",
    "uri": rf"[a-z][a-z0-9+.-]{{0,15}}://{_HOST}(:[1-9][0-9]{{0,3}})?(/[A-Za-z0-9._~/=&@+-]{{0,500}})?"
    r"(\?[A-Za-z0-9._~/=&@+-]{0,500})?(#[A-Za-z0-9._~/=&@+-]{0,100})?",
}
"""Pattern of the whole string for each format that is enforced.

They are narrower than their RFCs: no year below 1000, no leap seconds, no abbreviated IPv6 address, no
quoted local part of an address. Source: RFC 3339, RFC 4122, RFC 5321, RFC 1123, RFC 4291, RFC 3986.
"""


def string_of(expression: Expression, tokens: Tokens) -> Node:
    """Return a JSON string, with its quotes, whose characters match ``expression``."""
    return tokens.book.rule(seq('"', _inside(expression, tokens), '"'), "string")


def with_length(expression: Expression, minimum: int, maximum: int | None) -> Expression:
    """Return ``expression`` restricted to strings of ``minimum`` to ``maximum`` characters.

    Raises :class:`PatternError` if the two cannot be enforced together.
    """
    least, greatest = lengths(expression)
    if least >= minimum and (maximum is None or (greatest is not None and greatest <= maximum)):
        return expression
    if isinstance(expression, Repetition) and isinstance(expression.part, Class):
        low = max(expression.minimum, minimum)
        bounds = [bound for bound in (expression.maximum, maximum) if bound is not None]
        high = min(bounds) if bounds else None
        if high is None or low <= high:
            return Repetition(expression.part, low, high)
    raise PatternError("it cannot be enforced together with minLength or maxLength")


def format_expression(name: str) -> Expression:
    """Return the expression of the format ``name`` of :data:`FORMATS`."""
    return parse_pattern(f"^{FORMATS[name]}$")


def _inside(expression: Expression, tokens: Tokens) -> Node:
    match expression:
        case Class(ranges) if ranges == ANY:
            return tokens.character()
        case Class(ranges):
            characters = [part for span in ranges for part in _without_surrogates(span)]
            if not characters:
                raise PatternError("a surrogate is not a character")
            node = string_characters(normalised(characters))
            return node if isinstance(node, Literal | Chars) else tokens.book.rule(node, "set")
        case Concatenation(parts):
            return seq(*(_inside(part, tokens) for part in parts))
        case Alternation(branches):
            return choice(_inside(branch, tokens) for branch in branches)
        case Repetition(part, minimum, maximum):
            if maximum == 0:
                return EMPTY
            return tokens.book.repeat(_inside(part, tokens), minimum, maximum, "part")


def _without_surrogates(span: tuple[int, int]) -> list[tuple[int, int]]:
    first, last = span
    halves = [(first, min(last, SURROGATES[0] - 1)), (max(first, SURROGATES[1] + 1), last)]
    return [half for half in halves if half[0] <= half[1]]
