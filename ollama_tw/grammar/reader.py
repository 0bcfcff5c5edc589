"""Reader of clients' GBNF, to the extent that the limits of grammars require."""

import re

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.ambiguity import check_ambiguity
from ollama_tw.grammar.check import check_rules
from ollama_tw.grammar.gbnf import (
    EMPTY,
    LAST_CODE_POINT,
    Chars,
    Choice,
    Literal,
    Node,
    Ref,
    Repeat,
    Seq,
    complement,
)

MAX_GRAMMAR = 512 * 1024
"""Maximum length of a grammar in characters."""
MAX_NESTING = 64
"""Maximum nesting of parentheses."""

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
_HEX = frozenset("0123456789abcdefABCDEF")
_HEX_LENGTHS = {"x": 2, "u": 4, "U": 8}
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
# Comments, literals, classes, and the beginnings of tokens.
_PARTS = re.compile(r"""#[^\r\n]*|"(?:\\.|[^"\\])*+"?|\[(?:\\.|[^\]\\])*+\]?|!?<""", re.DOTALL)
_EXCLUDES_ASCII = re.compile(r"(?:[^\\\x80-\U0010ffff]|\\x[0-7][0-9A-Fa-f]|\\[^xuU])*").fullmatch
_ANY = Chars(((0, LAST_CODE_POINT),))


def limit_grammar(text: str) -> None:
    """Raise :class:`OllamaError` 400 for GBNF that llama.cpp cannot process safely.

    Such grammars are malformed, too deep, too large, left-recursive or too ambiguous.
    """
    rules = read_grammar(text)
    check_rules(rules)
    check_ambiguity(rules)


def read_grammar(text: str) -> dict[str, Node]:
    """Return the rules of a grammar by name; raises :class:`OllamaError` 400 for a malformed one.

    Tokens in it are read as any character.
    """
    if len(text) > MAX_GRAMMAR:
        raise OllamaError(400, f"the grammar is longer than {MAX_GRAMMAR} characters")
    return _Reader(text).rules()


def follows_prefixes(text: str) -> bool:
    """Return whether llama.cpp allows the beginnings of each token that it allows by this grammar.

    It does not for tokens that a grammar names, nor for a part of a character beside a class that excludes
    other ones. Source: llama.cpp: src/llama-grammar.cpp, llama_grammar_match_partial_char.
    """
    parts = _PARTS.findall(text)
    return not any(part[0] in "<!" or (part[:2] == "[^" and not _EXCLUDES_ASCII(part)) for part in parts)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._nesting = 0

    def rules(self) -> dict[str, Node]:
        if "\0" in self._text:
            raise self._malformed("unexpected NUL")
        rules: dict[str, Node] = {}
        self._skip(lines=True)
        while self._peek():
            name = self._name()
            self._skip(lines=False)
            if not self._take("::="):
                raise self._malformed("::= is expected")
            self._skip(lines=True)
            rules[name] = self._choice()
            if self._peek() and self._peek() not in "\r\n":
                raise self._malformed("the end of the line is expected")
            self._skip(lines=True)
        return rules

    def _choice(self) -> Node:
        branches = [self._sequence()]
        while self._take("|"):
            self._skip(lines=True)
            branches.append(self._sequence())
        return Choice(tuple(branches))

    def _sequence(self) -> Node:
        items: list[Node] = []
        while (start := self._peek()) and start not in "|)\r\n":
            if start in "*+?{":
                if not items or items[-1] in (EMPTY, Chars(())):
                    raise self._malformed("nothing to repeat")
                items[-1] = Repeat(items[-1], *self._counts())
            else:
                items.append(self._item(start))
            self._skip(lines=self._nesting > 0)
        return Seq(tuple(items))

    def _item(self, start: str) -> Node:
        if start in _NAME:
            return Ref(self._name())
        self._at += 1
        match start:
            case '"':
                return Literal(self._characters('"'))
            case "[":
                return self._class()
            case "(":
                return self._group()
            case ".":
                return _ANY
            case "<" | "!":
                return self._token(start)
            case _:
                raise self._malformed(f"unexpected {start}")

    def _group(self) -> Node:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise OllamaError(400, f"the grammar is nested deeper than {MAX_NESTING} levels")
        self._skip(lines=True)
        node = self._choice()
        if not self._take(")"):
            raise self._malformed("a parenthesis is not closed")
        self._nesting -= 1
        return node

    def _token(self, start: str) -> Node:
        if start == "!" and not self._take("<"):
            raise self._malformed("< is expected")
        end = self._text.find(">", self._at)
        if end < 0:
            raise self._malformed("a token is not closed")
        self._at = end + 1
        return _ANY

    def _characters(self, closing: str) -> str:
        """Return the characters up to ``closing``."""
        found = []
        while not self._take(closing):
            character = self._next()
            found.append(self._escape() if character == "\\" else character)
        return "".join(found)

    def _class(self) -> Chars:
        """Return a class of characters, up to its bracket."""
        negated = self._take("^")
        ranges = []
        while not self._take("]"):
            first = last = self._character()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                last = self._character()
            if first <= last:
                ranges.append((first, last))
        return Chars(complement(ranges) if negated else tuple(ranges))

    def _character(self) -> int:
        character = self._next()
        return ord(self._escape() if character == "\\" else character)

    def _escape(self) -> str:
        mark = self._next()
        if (length := _HEX_LENGTHS.get(mark)) is not None:
            digits = self._text[self._at : self._at + length]
            if len(digits) < length or not _HEX.issuperset(digits):
                raise self._malformed("hexadecimal digits are expected")
            self._at += length
            return chr(min(int(digits, 16), LAST_CODE_POINT))
        if mark not in _ESCAPES:
            raise self._malformed("an unknown escape")
        return _ESCAPES[mark]

    def _counts(self) -> tuple[int, int | None]:
        sign = self._next()
        if sign != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        lines = self._nesting > 0
        self._skip(lines=lines)
        minimum = self._count()
        maximum: int | None = minimum
        self._skip(lines=lines)
        if self._take(","):
            self._skip(lines=lines)
            maximum = None if self._peek() == "}" else self._count()
            self._skip(lines=lines)
        if not self._take("}") or (maximum is not None and maximum < minimum):
            raise self._malformed("a count in braces is malformed")
        return minimum, maximum

    def _count(self) -> int:
        start = self._at
        while (digit := self._peek()) and digit in "0123456789":
            self._at += 1
        if not 1 <= self._at - start <= 9:
            raise self._malformed("a count in braces is malformed")
        return int(self._text[start : self._at])

    def _name(self) -> str:
        start = self._at
        while self._peek() in _NAME:
            self._at += 1
        if start == self._at:
            raise self._malformed("a name is expected")
        return self._text[start : self._at]

    def _skip(self, *, lines: bool) -> None:
        blank = " \t\r\n" if lines else " \t"
        while (character := self._peek()) and (character in blank or character == "#"):
            if character != "#":
                self._at += 1
                continue
            while self._peek() and self._peek() not in "\r\n":
                self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        character = self._peek()
        if not character:
            raise self._malformed("unexpected end of the grammar")
        self._at += 1
        return character

    def _take(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _malformed(self, reason: str) -> OllamaError:
        line = self._text.count("\n", 0, self._at) + 1
        return OllamaError(400, f"malformed grammar, line {line}: {reason}")
