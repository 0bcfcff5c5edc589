"""Grammars of numbers between two bounds, over their decimal digits."""

import math
from dataclasses import dataclass
from decimal import Decimal

from ollama_tw.grammar.gbnf import EMPTY, Chars, Literal, Node, Repeat, choice, optional, seq
from ollama_tw.grammar.tokens import DIGIT, INTEGER_DIGITS, NON_ZERO

# Number of decimal digits that a client can still distinguish when it reads numbers as doubles.
_EXACT_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Bounds:
    """Interval of numbers; None is no bound."""

    low: Decimal | None = None
    high: Decimal | None = None
    low_open: bool = False
    high_open: bool = False

    def is_empty(self) -> bool:
        """Return True if no number is in the interval."""
        if self.low is None or self.high is None:
            return False
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    def mirrored(self) -> "Bounds":
        """Return the interval of the negated numbers."""
        low = None if self.high is None else self.high.copy_negate()
        high = None if self.low is None else self.low.copy_negate()
        return Bounds(low, high, self.high_open, self.low_open)

    def above(self, bound: int, *, is_open: bool) -> "Bounds":
        """Return the part of the interval from ``bound`` on."""
        if self.low is not None and (self.low > bound or (self.low == bound and self.low_open)):
            return self
        return Bounds(Decimal(bound), self.high, is_open, self.high_open)


def integer_between(bounds: Bounds) -> Node | None:
    """Return the integers in the interval; None if there are none."""
    low = None if bounds.low is None else math.ceil(bounds.low)
    if low is not None and low == bounds.low and bounds.low_open:
        low += 1
    high = None if bounds.high is None else math.floor(bounds.high)
    if high is not None and high == bounds.high and bounds.high_open:
        high -= 1
    parts = []
    if high is None or high >= 0:
        parts.append(_magnitudes(max(low or 0, 0), high))
    if low is None or low < 0:
        negative = _magnitudes(1 if high is None else max(-high, 1), None if low is None else -low)
        parts.append(negative and seq("-", negative))
    found = [part for part in parts if part is not None]
    return choice(found) if found else None


def _magnitudes(low: int, high: int | None) -> Node | None:
    """Return the integers from ``low``, which is not negative, to ``high``."""
    if high is None:
        high = 10 ** max(INTEGER_DIGITS, len(str(low)) + 1) - 1
    if low > high:
        return None
    by_length = []
    for length in range(len(str(low)), len(str(high)) + 1):
        smallest = max(low, 10 ** (length - 1) if length > 1 else 0)
        by_length.append(_same_length(str(smallest), str(min(high, 10**length - 1))))
    return choice(by_length)


def _same_length(low: str, high: str) -> Node:
    """Return the digit strings from ``low`` to ``high``, all of one length, leading zeros included."""
    if low == high:
        return Literal(low)
    if set(low) == {"0"} and set(high) == {"9"}:
        return DIGIT if len(low) == 1 else Repeat(DIGIT, len(low), len(low))
    if len(low) == 1:
        return _digits(int(low), int(high))
    first, last, length = int(low[0]), int(high[0]), len(low) - 1
    if first == last:
        return seq(low[0], _same_length(low[1:], high[1:]))
    parts = []
    if set(low[1:]) != {"0"}:
        parts.append(seq(low[0], _same_length(low[1:], "9" * length)))
        first += 1
    full_end = set(high[1:]) == {"9"}
    middle = (first, last if full_end else last - 1)
    if middle[0] <= middle[1]:
        parts.append(seq(_digits(*middle), _same_length("0" * length, "9" * length)))
    if not full_end:
        parts.append(seq(high[0], _same_length("0" * length, high[1:])))
    return choice(parts)


def _digits(first: int, last: int) -> Node:
    return Literal(str(first)) if first == last else Chars(((48 + first, 48 + last),))


def number_between(bounds: Bounds) -> Node | None:
    """Return the numbers in the interval, without exponents; None if there are none."""
    if bounds.is_empty():
        return None
    parts = []
    if bounds.high is None or bounds.high > 0 or (bounds.high == 0 and not bounds.high_open):
        parts.append(_decimals(bounds.above(0, is_open=False)))
    if bounds.low is None or bounds.low < 0:
        negative = _decimals(bounds.mirrored().above(0, is_open=True))
        parts.append(negative and seq("-", negative))
    found = [part for part in parts if part is not None]
    return choice(found) if found else None


def _decimals(bounds: Bounds) -> Node | None:
    """Return the decimals in an interval whose lower bound is not negative."""
    if bounds.is_empty() or bounds.low is None:
        return None
    low_whole, low_digits = _split(bounds.low)
    low = _Edge(low_digits, bounds.low_open) if low_digits or bounds.low_open else None
    if bounds.high is None:
        limit = max(_EXACT_DIGITS - len(str(low_whole)), len(low_digits), 1)
        return _joined([_with_whole(low_whole, low, None, limit), _any_fraction(low_whole + 1, None, limit)])
    high_whole, high_digits = _split(bounds.high)
    high = _Edge(high_digits, bounds.high_open)
    limit = max(_EXACT_DIGITS - len(str(high_whole)), len(low_digits), len(high_digits), 1)
    if low_whole == high_whole:
        return _with_whole(low_whole, low, high, limit)
    return _joined(
        [
            _with_whole(low_whole, low, None, limit),
            _any_fraction(low_whole + 1, high_whole - 1, limit),
            _with_whole(high_whole, None, high, limit),
        ]
    )


def _split(number: Decimal) -> tuple[int, str]:
    """Return the integral part and the digits after the point, without trailing zeros."""
    whole, _, fraction = f"{number:f}".partition(".")
    return int(whole), fraction.rstrip("0")


def _joined(parts: list[Node | None]) -> Node | None:
    found = [part for part in parts if part is not None]
    return choice(found) if found else None


def _any_fraction(low: int, high: int | None, limit: int) -> Node | None:
    whole = _magnitudes(low, high)
    return whole and seq(whole, optional(seq(".", Repeat(DIGIT, 1, limit))))


@dataclass(frozen=True, slots=True)
class _Edge:
    """Bound of a fraction: its remaining digits, and True if the bound is exclusive."""

    digits: str
    is_open: bool

    def after(self, digit: int, *, lower: bool) -> "tuple[bool, _Edge | None]":
        """Return True if ``digit`` may come next, and the rest of the bound after it."""
        own = int(self.digits[0]) if self.digits else 0
        if digit == own:
            return True, _Edge(self.digits[1:], self.is_open)
        return (digit > own) == lower, None


def _with_whole(whole: int, low: _Edge | None, high: _Edge | None, limit: int) -> Node | None:
    """Return ``whole`` with the fractions between the two edges."""
    tails = _fractions(low, high, limit)
    parts: list[Node] = []
    if _may_stop(low, high):
        parts.append(EMPTY)
    if tails is not None:
        parts.append(seq(".", tails))
    return seq(str(whole), choice(parts)) if parts else None


def _may_stop(low: _Edge | None, high: _Edge | None) -> bool:
    """Return whether a fraction may end here: what follows counts as zeros."""
    above = low is None or (not low.digits and not low.is_open)
    return above and (high is None or bool(high.digits) or not high.is_open)


def _fractions(low: _Edge | None, high: _Edge | None, limit: int) -> Node | None:
    """Return one to ``limit`` digits that lie between the edges."""
    if low is not None and not low.digits and not low.is_open:
        low = None
    if limit == 0 or (high is not None and not high.digits and (high.is_open or low is not None)):
        return None
    if high is not None and not high.digits:
        return Repeat(Literal("0"), 1, limit)
    if low is None and high is None:
        return Repeat(DIGIT, 1, limit)
    if low is not None and not low.digits and high is None:
        zeros = Repeat(Literal("0"), 0, limit - 1)
        return seq(zeros, NON_ZERO, Repeat(DIGIT, 0, limit - 1))
    parts: list[Node] = []
    start = 0
    follow_ups = [_follow_up(digit, low, high) for digit in range(10)]
    for digit, follow_up in enumerate(follow_ups):
        if digit < 9 and follow_ups[digit + 1] == follow_up:
            continue
        if follow_up is not None:
            rest = _fractions(*follow_up, limit - 1)
            head = _digits(start, digit)
            if rest is not None:
                parts.append(seq(head, optional(rest) if _may_stop(*follow_up) else rest))
            elif _may_stop(*follow_up):
                parts.append(head)
        start = digit + 1
    return choice(parts) if parts else None


def _follow_up(
    digit: int, low: _Edge | None, high: _Edge | None
) -> "tuple[_Edge | None, _Edge | None] | None":
    """Return the edges after ``digit``, or None if it must not come next."""
    low_fits, next_low = low.after(digit, lower=True) if low is not None else (True, None)
    high_fits, next_high = high.after(digit, lower=False) if high is not None else (True, None)
    return (next_low, next_high) if low_fits and high_fits else None
