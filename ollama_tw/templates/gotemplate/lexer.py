"""Lexer of templates.

Source: Go's package ``text/template`` ("Text and spaces", "Actions") and ``text/template/parse`` (lex.go).
"""

import enum
import re
from typing import NamedTuple

SPACES = " \t\r\n"

_DIGITS = {"x": "0-9a-fA-F_", "o": "0-7_", "b": "01_", "": "0-9_"}
_NUMBER = re.compile(
    rf"""[+-]?(?:0[xX][{_DIGITS["x"]}]*(?:\.[{_DIGITS["x"]}]*)?(?:[pP][+-]?[0-9_]*)?
        |0[oO][{_DIGITS["o"]}]*(?:\.[{_DIGITS["o"]}]*)?
        |0[bB][{_DIGITS["b"]}]*(?:\.[{_DIGITS["b"]}]*)?
        |[{_DIGITS[""]}]*(?:\.[{_DIGITS[""]}]*)?(?:[eE][+-]?[0-9_]*)?)i?""",
    re.VERBOSE,
)
_QUOTED = re.compile(r'"(?:[^"\\\n]++|\\[^\n])*"')
_CHARACTER = re.compile(r"'(?:[^'\\\n]++|\\[^\n])*'")


class Kind(enum.Enum):
    """Kind of a token; the value of a keyword is its spelling."""

    TEXT = enum.auto()
    LEFT_DELIMITER = enum.auto()
    RIGHT_DELIMITER = enum.auto()
    SPACE = enum.auto()
    LEFT_PARENTHESIS = enum.auto()
    RIGHT_PARENTHESIS = enum.auto()
    DECLARE = enum.auto()
    ASSIGN = enum.auto()
    PIPE = enum.auto()
    CHARACTER = enum.auto()
    BOOL = enum.auto()
    STRING = enum.auto()
    RAW_STRING = enum.auto()
    CHARACTER_CONSTANT = enum.auto()
    NUMBER = enum.auto()
    DOT = enum.auto()
    FIELD = enum.auto()
    VARIABLE = enum.auto()
    IDENTIFIER = enum.auto()
    END_OF_FILE = enum.auto()
    ERROR = enum.auto()

    BLOCK = "block"
    BREAK = "break"
    CONTINUE = "continue"
    DEFINE = "define"
    ELSE = "else"
    END = "end"
    IF = "if"
    NIL = "nil"
    RANGE = "range"
    TEMPLATE = "template"
    WITH = "with"


_KEYWORDS = {kind.value: kind for kind in Kind if isinstance(kind.value, str)}
_SINGLE = {"=": Kind.ASSIGN, "|": Kind.PIPE}


class Token(NamedTuple):
    """Token: ``text`` as written (an error's message), ``position`` in characters."""

    kind: Kind
    text: str
    position: int


class _LexicalError(Exception):
    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def tokenize(source: str) -> list[Token]:
    """Return the tokens of ``source``; the last one is END_OF_FILE or, at the first error, ERROR.

    Never raises: an error is a token, so that the parser reports the first error in the text.
    """
    lexer = _Lexer(source)
    try:
        lexer.run()
    except _LexicalError as error:
        lexer.tokens.append(Token(Kind.ERROR, str(error), error.position))
    return lexer.tokens


class _Lexer:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens: list[Token] = []
        self._parentheses = 0

    def run(self) -> None:
        position = 0
        while (opening := self.source.find("{{", position)) >= 0:
            body = opening + 2
            trims = self.source.startswith("-", body) and self._is_space(body + 1)
            text = self.source[position:opening]
            if trims:
                body += 2
                text = text.rstrip(SPACES)
            if text:
                self._emit(Kind.TEXT, text, position)
            if self.source.startswith("/*", body):
                position = self._comment(body)
            else:
                self._emit(Kind.LEFT_DELIMITER, "{{", opening)
                position = self._action(body)
        if position < len(self.source):
            self._emit(Kind.TEXT, self.source[position:], position)
        self._emit(Kind.END_OF_FILE, "", len(self.source))

    def _emit(self, kind: Kind, text: str, position: int) -> int:
        self.tokens.append(Token(kind, text, position))
        return position + len(text)

    def _is_space(self, position: int) -> bool:
        return self.source[position : position + 1] in SPACES and position < len(self.source)

    def _right_delimiter(self, position: int) -> int | None:
        """Return the position of ``}}`` if an action, with or without trim marker, ends at ``position``."""
        if self.source.startswith("}}", position):
            return position
        if self._is_space(position) and self.source.startswith("-}}", position + 1):
            return position + 2
        return None

    def _after_delimiter(self, start: int, delimiter: int) -> int:
        position = delimiter + 2
        if delimiter > start:
            while self._is_space(position):
                position += 1
        return position

    def _comment(self, start: int) -> int:
        end = self.source.find("*/", start + 2)
        if end < 0:
            raise _LexicalError("unclosed comment", start)
        delimiter = self._right_delimiter(end + 2)
        if delimiter is None:
            raise _LexicalError("comment ends before closing delimiter", start)
        return self._after_delimiter(end + 2, delimiter)

    def _action(self, position: int) -> int:
        self._parentheses = 0
        while True:
            delimiter = self._right_delimiter(position)
            if delimiter is not None:
                if self._parentheses:
                    raise _LexicalError("unclosed left paren", position)
                self._emit(Kind.RIGHT_DELIMITER, "}}", delimiter)
                return self._after_delimiter(position, delimiter)
            if position >= len(self.source):
                raise _LexicalError("unclosed action", position)
            position = self._inside(position)

    def _inside(self, position: int) -> int:
        """Read one token of an action and return the position after it."""
        source = self.source
        character = source[position]
        if character in SPACES:
            end = position
            while self._is_space(end) and self._right_delimiter(end) is None:
                end += 1
            return self._emit(Kind.SPACE, source[position:end], position)
        if character in _SINGLE:
            return self._emit(_SINGLE[character], character, position)
        if character == ":":
            if not source.startswith(":=", position):
                raise _LexicalError("expected :=", position)
            return self._emit(Kind.DECLARE, ":=", position)
        if character == '"':
            return self._delimited(_QUOTED, Kind.STRING, "unterminated quoted string", position)
        if character == "'":
            return self._delimited(
                _CHARACTER, Kind.CHARACTER_CONSTANT, "unterminated character constant", position
            )
        if character == "`":
            end = source.find("`", position + 1)
            if end < 0:
                raise _LexicalError("unterminated raw quoted string", position)
            return self._emit(Kind.RAW_STRING, source[position : end + 1], position)
        if character == "$":
            return self._name(Kind.VARIABLE, position)
        if character == "." and not "0" <= source[position + 1 : position + 2] <= "9":
            return self._name(Kind.FIELD, position)
        if character in "+-.0123456789":
            return self._number(position)
        if _is_word(character):
            return self._word(position)
        return self._punctuation(character, position)

    def _punctuation(self, character: str, position: int) -> int:
        if character == "(":
            self._parentheses += 1
            return self._emit(Kind.LEFT_PARENTHESIS, character, position)
        if character == ")":
            self._parentheses -= 1
            if self._parentheses < 0:
                raise _LexicalError("unexpected right paren", position)
            return self._emit(Kind.RIGHT_PARENTHESIS, character, position)
        if character.isascii() and character.isprintable():
            return self._emit(Kind.CHARACTER, character, position)
        raise _LexicalError(f"unrecognized character in action: {describe_rune(character)}", position)

    def _delimited(self, pattern: re.Pattern[str], kind: Kind, complaint: str, position: int) -> int:
        match = pattern.match(self.source, position)
        if match is None:
            raise _LexicalError(complaint, position)
        return self._emit(kind, match.group(), position)

    def _word_end(self, position: int, start: int) -> int:
        """Return the end of the word at ``position``, which a blank or punctuation has to follow."""
        while position < len(self.source) and _is_word(self.source[position]):
            position += 1
        following = self.source[position : position + 1]
        if following in " \t\r\n.,|:)(" or self.source.startswith("}}", position):
            return position
        raise _LexicalError(f"bad character {describe_rune(following)}", start)

    def _name(self, kind: Kind, position: int) -> int:
        end = self._word_end(position + 1, position)
        if kind is Kind.FIELD and end == position + 1:
            kind = Kind.DOT
        return self._emit(kind, self.source[position:end], position)

    def _word(self, position: int) -> int:
        end = self._word_end(position, position)
        word = self.source[position:end]
        kind = Kind.BOOL if word in ("true", "false") else _KEYWORDS.get(word, Kind.IDENTIFIER)
        return self._emit(kind, word, position)

    def _number(self, start: int) -> int:
        end = self._number_end(start, start)
        if self.source[end : end + 1] in ("+", "-"):
            end = self._number_end(end, start)
            if self.source[end - 1] != "i":
                raise _LexicalError(f"bad number syntax: {_quoted(self.source[start:end])}", start)
        return self._emit(Kind.NUMBER, self.source[start:end], start)

    def _number_end(self, position: int, start: int) -> int:
        match = _NUMBER.match(self.source, position)
        end = match.end() if match else position
        if end < len(self.source) and _is_word(self.source[end]):
            raise _LexicalError(f"bad number syntax: {_quoted(self.source[start : end + 1])}", start)
        return end


def _is_word(character: str) -> bool:
    return character == "_" or character.isalpha() or character.isdecimal()


def _quoted(text: str) -> str:
    return f'"{text}"'


def describe_rune(character: str) -> str:
    """Return a character as Go's ``%#U`` prints it, such as ``U+0040 '@'``."""
    code = f"U+{ord(character):04X}"
    return f"{code} '{character}'" if character.isprintable() else code
