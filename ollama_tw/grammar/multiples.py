"""Grammars of the multiples of a number, over their decimal digits."""

from decimal import Decimal

from ollama_tw.grammar.gbnf import EMPTY, Literal, Node, Repeat, choice, optional, seq
from ollama_tw.grammar.ranges import Bounds
from ollama_tw.grammar.tokens import DIGIT, INTEGER_DIGITS, NON_ZERO

_MAX_LISTED = 512
_MAX_DIGITS = 3
_MAX_DECIMALS = 8


def multiples_of(step: Decimal, bounds: Bounds) -> Node | None:
    """Return the multiples of ``step`` between ``bounds``; None if no grammar of a fair size has them.

    The grammar is :data:`EMPTY` if there are none. Few multiples are listed. Without bounds, a step that
    divides a power of ten constrains the last digits.
    """
    if bounds.low is not None and bounds.high is not None:
        listed = _listed(step, bounds)
        if listed is not None:
            return choice(listed) if listed else EMPTY
    if bounds.high is not None or bounds.low not in (None, 0):
        return None
    sign = seq() if bounds.low == 0 else optional(Literal("-"))
    if step == step.to_integral_value():
        return _whole(int(step), sign, zero=not bounds.low_open)
    # The grammar of decimals has zero.
    return None if bounds.low_open else _fractions(step, sign)


def _listed(step: Decimal, bounds: Bounds) -> list[Node] | None:
    """Return all multiples; None if they are many."""
    low, high = bounds.low or Decimal(0), bounds.high or Decimal(0)
    first = (low / step).to_integral_value(rounding="ROUND_CEILING")
    last = (high / step).to_integral_value(rounding="ROUND_FLOOR")
    if bounds.low_open and first * step == low:
        first += 1
    if bounds.high_open and last * step == high:
        last -= 1
    if last - first >= _MAX_LISTED:
        return None
    return [Literal(_text(step * number)) for number in range(int(first), int(last) + 1)]


def _text(value: Decimal) -> str:
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _whole(step: int, sign: Node, *, zero: bool) -> Node | None:
    """Return the integers that end in the digits of a multiple of ``step``."""
    digits = next((count for count in range(_MAX_DIGITS + 1) if 10**count % step == 0), None)
    if digits is None:
        return None
    if digits == 0:
        magnitude: Node = seq(NON_ZERO, Repeat(DIGIT, 0, INTEGER_DIGITS - 1))
    else:
        tails = [f"{value:0{digits}d}" for value in range(0, 10**digits, step)]
        short = [Literal(tail.lstrip("0")) for tail in tails if tail.strip("0")]
        lead = seq(NON_ZERO, Repeat(DIGIT, 0, INTEGER_DIGITS - 1 - digits))
        magnitude = choice([*short, seq(lead, choice(Literal(tail) for tail in tails))])
    signed = seq(sign, magnitude)
    return choice([Literal("0"), signed]) if zero else signed


def _fractions(step: Decimal, sign: Node) -> Node | None:
    """Return the decimals whose fraction is a multiple of ``step``, which must divide 1."""
    exponent = step.normalize().as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > _MAX_DECIMALS or 1 % step:
        return None
    whole = choice([Literal("0"), seq(NON_ZERO, Repeat(DIGIT, 0, INTEGER_DIGITS - 1))])
    if step == Decimal(10) ** exponent:
        fraction: Node = Repeat(DIGIT, 1, -exponent)
    elif 1 / step <= _MAX_LISTED:
        fraction = choice(Literal(_text(step * number)[2:] or "0") for number in range(int(1 / step)))
    else:
        return None
    return seq(sign, whole, optional(seq(".", fraction)))
