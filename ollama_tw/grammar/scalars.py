"""Grammars of the strings and numbers of a schema."""

from collections.abc import Sequence
from contextlib import suppress
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from ollama_tw.grammar.automaton import TooLarge
from ollama_tw.grammar.document import Document, Flat, refuse, unsatisfiable
from ollama_tw.grammar.gbnf import EMPTY, MAX_COUNT, Node
from ollama_tw.grammar.multiples import multiples_of
from ollama_tw.grammar.pattern import Expression, PatternError
from ollama_tw.grammar.ranges import Bounds, integer_between, number_between
from ollama_tw.grammar.strings import FORMATS, format_expression
from ollama_tw.grammar.texts import checked_pattern, text_of
from ollama_tw.grammar.tokens import Tokens, json_text

_MAX_BOUND = Decimal(10) ** 36
_MAX_BOUND_DECIMALS = 20

_INTEGER_FORMATS = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}


class Scalars:
    """Converts the keywords of strings and numbers. All methods raise :class:`OllamaError` 400."""

    def __init__(self, document: Document, tokens: Tokens) -> None:
        self._document = document
        self._book = tokens.book
        self._tokens = tokens

    def string(self, flat: Flat, where: str) -> Node:
        """Return the strings with the patterns, the formats and the length of ``flat``."""
        minimum, maximum = self.counts(flat, "Length", where)
        patterns: list[Expression] = []
        for pattern in flat.get("pattern", ()):
            self._document.spend(len(pattern))
            try:
                patterns.append(checked_pattern(pattern))
            except PatternError as error:
                self._document.leave_free(where, f"pattern {json_text(pattern[:100])}: {error}")
        formats = [format_expression(name) for name in flat.get("format", ()) if name in FORMATS]
        if not patterns and not formats:
            return self._tokens.string(minimum, maximum)
        bounds = (minimum, maximum)
        try:
            both = text_of([*patterns, *formats], *bounds, self._tokens)
        except TooLarge:
            return self._without_some(patterns, formats, bounds, where)
        if both is not None:
            return both
        if not formats:
            raise unsatisfiable(where)
        # Formats are narrower here than in their RFCs: what excludes one is the stronger.
        self._document.leave_free(
            where, "the format is not enforced together with the pattern and the length"
        )
        return self.string({**flat, "format": ()}, where)

    def _without_some(
        self,
        patterns: Sequence[Expression],
        formats: Sequence[Expression],
        bounds: tuple[int, int | None],
        where: str,
    ) -> Node:
        """Return the strings with those of the constraints that a grammar of a fair size can have."""
        if patterns and formats:
            with suppress(TooLarge):
                node = text_of(patterns, *bounds, self._tokens)
                if node is None:
                    raise unsatisfiable(where)
                return node
        self._document.leave_free(where, "the patterns, formats and lengths are too complex together")
        for expression in (*patterns, *formats):
            with suppress(TooLarge):
                node = text_of([expression], 0, None, self._tokens)
                if node is not None:
                    return node
        return self._tokens.string(*bounds)

    def counts(self, flat: Flat, unit: str, where: str) -> tuple[int, int | None]:
        """Return the bounds of a number of ``Items``, ``Properties`` or characters (``Length``)."""
        minimum = int(flat.get(f"min{unit}", 0))
        maximum = flat.get(f"max{unit}")
        if minimum > MAX_COUNT:
            raise refuse(where, f"min{unit} is supported up to {MAX_COUNT}")
        if maximum is not None and maximum > MAX_COUNT:
            # No reply is that long.
            maximum = None
        if maximum is not None and maximum < minimum:
            raise unsatisfiable(where)
        return minimum, None if maximum is None else int(maximum)

    def number(self, flat: Flat, where: str, *, whole: bool) -> Node:
        """Return the numbers, or integers, between the bounds of ``flat``."""
        bounds = self._bounds(flat, where)
        for name in flat.get("format", ()) if whole else ():
            if name not in _INTEGER_FORMATS:
                continue
            low, high = (Decimal(end) for end in _INTEGER_FORMATS[name])
            if bounds.low is None or bounds.low < low:
                bounds = Bounds(low, bounds.high, False, bounds.high_open)
            if bounds.high is None or bounds.high > high:
                bounds = Bounds(bounds.low, high, bounds.low_open, False)
        if "multipleOf" in flat:
            multiples = self._multiples(flat, bounds, where, whole=whole)
            if multiples is not None:
                return multiples
        if bounds == Bounds():
            return self._tokens.integer() if whole else self._tokens.number()
        node = integer_between(bounds) if whole else number_between(bounds)
        if node is None:
            raise unsatisfiable(where)
        return self._book.rule(node, "integer" if whole else "number")

    def _multiples(self, flat: Flat, bounds: Bounds, where: str, *, whole: bool) -> Node | None:
        step = Decimal(str(flat["multipleOf"]))
        if whole and step != step.to_integral_value():
            # The integers among the multiples of n/m in lowest terms are those of n.
            step = Decimal(step.as_integer_ratio()[0])
        node = multiples_of(step, bounds)
        if node is None and not (whole and step == 1):
            self._document.leave_free(where, "keyword multipleOf is not enforced")
        if node == EMPTY:
            raise unsatisfiable(where)
        return None if node is None else self._book.rule(node, "multiple")

    def _bounds(self, flat: Flat, where: str) -> Bounds:
        low, low_open = self._bound(flat, "minimum", "exclusiveMinimum", where)
        high, high_open = self._bound(flat, "maximum", "exclusiveMaximum", where)
        return Bounds(low, high, low_open, high_open)

    def _bound(self, flat: Flat, closed: str, opened: str, where: str) -> tuple[Decimal | None, bool]:
        """Return the tighter of two bounds, and True if it is exclusive."""
        found = []
        for keyword in (closed, opened):
            if keyword in flat:
                bound = _decimal(flat[keyword], lower=closed == "minimum")
                if bound is None:
                    raise refuse(where, f"{keyword} has too many digits")
                found.append((bound, keyword == opened))
        if not found:
            return None, False
        tighter = max if closed == "minimum" else min
        bound = tighter(value for value, _ in found)
        return bound, (bound, True) in found


def _decimal(value: int | float, *, lower: bool) -> Decimal | None:
    """Return a bound with a bounded number of digits that is not looser; None if there is none."""
    if abs(value) > _MAX_BOUND:
        # Generators write the bounds of floating point types, which are a tighter range here.
        return (_MAX_BOUND if value > 0 else -_MAX_BOUND) if (value < 0) == lower else None
    number = Decimal(str(value))
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= -_MAX_BOUND_DECIMALS:
        return number
    rounding = ROUND_CEILING if lower else ROUND_FLOOR
    return number.quantize(Decimal(1).scaleb(-_MAX_BOUND_DECIMALS), rounding)
