r"""Parser of JSON Schema's regular expressions.

The supported subset: literals, ``.``, classes, groups, alternation, quantifiers, ``^`` and ``$`` at the
ends, ``\d \w \s`` and their complements as in ECMA-262. Everything else is rejected.
"""

import re
from dataclasses import dataclass

from ollama_tw.grammar.gbnf import LAST_CODE_POINT, complement, normalised

MAX_GROUPS = 32

_DIGITS = ((0x30, 0x39),)
_WORDS = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACES = (
    *((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
    *((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
)
_NOT_LINE_ENDS = complement([(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)])
_CLASSES = {
    "d": _DIGITS,
    "w": _WORDS,
    "s": _SPACES,
    "D": complement(_DIGITS),
    "W": complement(_WORDS),
    "S": complement(_SPACES),
}
_CONTROLS = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D, "0": 0x00}
_NAME = re.compile(r"\?P?<[A-Za-z_]\w{0,63}>")
ANY = ((0, LAST_CODE_POINT),)
"""The ranges of a class of all characters."""
_HEX_LENGTHS = {"x": 2, "u": 4}

Ranges = tuple[tuple[int, int], ...]


class PatternError(ValueError):
    """Error of a pattern that cannot be enforced or is not a regular expression."""


@dataclass(frozen=True, slots=True)
class Class:
    """One character of these ranges of code points."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Concatenation:
    """The parts in order; no parts match the empty text."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Alternation:
    """One of the branches."""

    branches: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Repetition:
    """The part ``minimum`` to ``maximum`` times; None is no maximum."""

    part: "Expression"
    minimum: int
    maximum: int | None


Expression = Class | Concatenation | Alternation | Repetition

# Replaces a missing anchor at either end.
_ANYTHING = Repetition(Class(ANY), 0, None)


def lengths(expression: Expression) -> tuple[int, int | None]:
    """Return the minimum and maximum length of matching texts; None is no maximum."""
    match expression:
        case Class():
            return 1, 1
        case Concatenation(parts):
            found = [lengths(part) for part in parts]
            bounds = [greatest for _, greatest in found if greatest is not None]
            return sum(least for least, _ in found), sum(bounds) if len(bounds) == len(found) else None
        case Alternation(branches):
            found = [lengths(branch) for branch in branches]
            bounds = [greatest for _, greatest in found if greatest is not None]
            return min(least for least, _ in found), max(bounds) if len(bounds) == len(found) else None
        case Repetition(part, minimum, maximum):
            least, greatest = lengths(part)
            if maximum is None or greatest is None:
                return least * minimum, 0 if greatest == 0 or maximum == 0 else None
            return least * minimum, greatest * maximum


def parse_pattern(pattern: str) -> Expression:
    """Return an expression for whole strings in which ``pattern`` matches. Raises :class:`PatternError`."""
    return _Parser(pattern).parse()


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._groups = 0

    def parse(self) -> Expression:
        branches = [self._top_branch()]
        while self._take("|"):
            branches.append(self._top_branch())
        if self._at < len(self._pattern):
            raise PatternError("unmatched closing parenthesis")
        return branches[0] if len(branches) == 1 else Alternation(tuple(branches))

    def _top_branch(self) -> Expression:
        """Parse a branch outside of all groups, where alone anchors are supported."""
        at_start = self._take("^")
        body = self._concatenation()
        at_end = self._take("$")
        if at_end and self._peek() not in ("", "|"):
            raise PatternError("$ is supported at the end only")
        parts = [*([] if at_start else [_ANYTHING]), body, *([] if at_end else [_ANYTHING])]
        return parts[0] if len(parts) == 1 else Concatenation(tuple(parts))

    def _concatenation(self) -> Expression:
        parts = []
        while self._peek() not in ("", "|", ")", "$"):
            parts.append(self._quantified(self._atom()))
        return parts[0] if len(parts) == 1 else Concatenation(tuple(parts))

    def _group(self) -> Expression:
        if self._peek() == "?" and not self._take("?:") and not self._name():
            raise PatternError("groups that begin with (? are not supported, except (?: and (?<name>")
        self._groups += 1
        if self._groups > MAX_GROUPS:
            raise PatternError(f"groups are nested deeper than {MAX_GROUPS}")
        branches = [self._concatenation()]
        while self._take("|"):
            branches.append(self._concatenation())
        if self._peek() == "$":
            raise PatternError("$ is supported at the end only")
        if not self._take(")"):
            raise PatternError("a parenthesis is not closed")
        self._groups -= 1
        return branches[0] if len(branches) == 1 else Alternation(tuple(branches))

    def _name(self) -> bool:
        """Take the name of a group, in JavaScript's or Python's notation."""
        found = _NAME.match(self._pattern, self._at)
        self._at = found.end() if found else self._at
        return found is not None

    def _atom(self) -> Expression:
        character = self._next()
        match character:
            case "(":
                return self._group()
            case "[":
                return Class(self._class())
            case ".":
                return Class(_NOT_LINE_ENDS)
            case "\\":
                return Class(self._escape())
            case "^":
                raise PatternError("^ is supported at the beginning only")
            case "*" | "+" | "?" | "{":
                raise PatternError(f"unexpected {character}")
            case _:
                return Class(((ord(character), ord(character)),))

    def _quantified(self, part: Expression) -> Expression:
        counts = self._quantifier()
        if counts is None:
            return part
        self._take("?")
        if self._quantifier() is not None:
            raise PatternError("two quantifiers in a row")
        return Repetition(part, *counts)

    def _quantifier(self) -> tuple[int, int | None] | None:
        for sign, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return counts
        if not self._take("{"):
            return None
        minimum = self._count()
        maximum: int | None = minimum
        if self._take(","):
            maximum = None if self._peek() == "}" else self._count()
        if not self._take("}") or (maximum is not None and maximum < minimum):
            raise PatternError("a count in braces is malformed")
        return minimum, maximum

    def _count(self) -> int:
        start = self._at
        while self._peek() in tuple("0123456789"):
            self._at += 1
        if not 1 <= self._at - start <= 6:
            raise PatternError("a count in braces is malformed")
        return int(self._pattern[start : self._at])

    def _class(self) -> Ranges:
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            first = self._class_member()
            if self._peek() != "-" or self._pattern[self._at + 1 : self._at + 2] == "]":
                ranges.extend(first)
                continue
            self._next()
            last = self._class_member()
            ends = (*first, *last)
            if len(ends) != 2 or any(a != b for a, b in ends) or ends[0][0] > ends[1][0]:
                raise PatternError("a range in brackets is malformed")
            ranges.append((ends[0][0], ends[1][0]))
        found = complement(ranges) if negated else normalised(ranges)
        if not found:
            raise PatternError("an empty class")
        return found

    def _class_member(self) -> Ranges:
        character = self._next()
        if character != "\\":
            return ((ord(character), ord(character)),)
        if self._take("b"):
            return ((0x08, 0x08),)
        return ((0x2D, 0x2D),) if self._take("-") else self._escape()

    def _escape(self) -> Ranges:
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if (length := _HEX_LENGTHS.get(character)) is not None:
            code = self._hex(length)
        elif character in _CONTROLS and not (character == "0" and self._peek().isdigit()):
            code = _CONTROLS[character]
        elif character.isalnum():
            raise PatternError(f"\\{character} is not supported")
        else:
            code = ord(character)
        return ((code, code),)

    def _hex(self, length: int) -> int:
        digits = self._pattern[self._at : self._at + length]
        if len(digits) < length or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            raise PatternError("a hexadecimal escape is malformed")
        self._at += length
        return int(digits, 16)

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _next(self) -> str:
        character = self._peek()
        if not character:
            raise PatternError("unexpected end of the pattern")
        self._at += 1
        return character

    def _take(self, text: str) -> bool:
        found = self._pattern.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found
