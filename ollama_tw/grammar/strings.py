"""Grammars of strings with a pattern, a format or a length."""

from ollama_tw.grammar.gbnf import EMPTY, Chars, Literal, Node, choice, normalised, seq
from ollama_tw.grammar.pattern import (
    ANY,
    Alternation,
    Class,
    Concatenation,
    Expression,
    PatternError,
    Ranges,
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
_IPV4 = rf"{_BYTE}(\.{_BYTE}){{3}}"
_IPV6 = "[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}"
_PREFIX_4 = "([0-9]|[12][0-9]|3[0-2])"
_PREFIX_6 = "([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8])"
_HEX = "[0-9a-f]"
_ATOM = "[A-Za-z0-9_%+]"
_CLOCK = "([0-9]{1,6}H([0-9]{1,6}M([0-9]{1,6}S)?)?|[0-9]{1,6}M([0-9]{1,6}S)?|[0-9]{1,6}S)"
_CALENDAR = "([0-9]{1,6}Y([0-9]{1,6}M([0-9]{1,6}D)?)?|[0-9]{1,6}M([0-9]{1,6}D)?|[0-9]{1,6}D)"

FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": f"P({_CALENDAR}(T{_CLOCK})?|T{_CLOCK}|[0-9]{{1,6}}W)",
    "uuid": "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
    **{
        f"uuid{version}": f"{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}}"
        for version in (1, 3, 4, 5, 6, 7, 8)
    },
    "email": rf"{_ATOM}([.-]?{_ATOM}){{0,31}}@{_LABEL}(\.{_LABEL}){{1,3}}",
    "hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "ipvanyaddress": f"({_IPV4}|{_IPV6})",
    "ipv4interface": f"{_IPV4}/{_PREFIX_4}",
    "ipv6interface": f"{_IPV6}/{_PREFIX_6}",
    "ipvanyinterface": f"({_IPV4}/{_PREFIX_4}|{_IPV6}/{_PREFIX_6})",
    "base64": "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?",
    "uri": rf"[a-z][a-z0-9+.-]{{0,15}}://{_HOST}(:[1-9][0-9]{{0,3}})?(/[A-Za-z0-9._~/=&@+-]{{0,500}})?"
    r"(\?[A-Za-z0-9._~/=&@+-]{0,500})?(#[A-Za-z0-9._~/=&@+-]{0,100})?",
}
"""Pattern of the whole string for each format that is enforced.

They are narrower than their RFCs: no year below 1000, no leap seconds, no abbreviated IPv6 address, no
quoted local part of an address. The versions of UUIDs and the addresses of both kinds are Pydantic's.
Source: RFC 3339, RFC 4122, RFC 5321, RFC 1123, RFC 4291, RFC 3986.
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


def characters_of(ranges: Ranges, tokens: Tokens) -> Node:
    """Return one of these characters as written inside a JSON string. Raises :class:`PatternError`."""
    if ranges == ANY:
        return tokens.character()
    characters = without_surrogates(ranges)
    if not characters:
        raise PatternError("a surrogate is not a character")
    node = string_characters(characters)
    return node if isinstance(node, Literal | Chars) else tokens.book.rule(node, "set")


def _inside(expression: Expression, tokens: Tokens) -> Node:
    match expression:
        case Class(ranges):
            return characters_of(ranges, tokens)
        case Concatenation(parts):
            return seq(*(_inside(part, tokens) for part in parts))
        case Alternation(branches):
            return choice(_inside(branch, tokens) for branch in branches)
        case Repetition(part, minimum, maximum):
            if maximum == 0:
                return EMPTY
            if lengths(part)[0] == 0:
                raise PatternError("a repeated part matches the empty text")
            return tokens.book.repeat(_inside(part, tokens), minimum, maximum, "part")


def without_surrogates(ranges: Ranges) -> Ranges:
    """Return the characters among these code points."""
    halves = [
        half
        for first, last in ranges
        for half in ((first, min(last, SURROGATES[0] - 1)), (max(first, SURROGATES[1] + 1), last))
    ]
    return normalised(half for half in halves if half[0] <= half[1])
