"""Parser of Modelfiles.

Pure. Source: ollama: parser/parser.go, ParseFile.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ollama_tw.library.modelfile.values import BLANKS, ValueReader, printable, split_lines

FROM: Final = "model"
"""The name of FROM instructions; ``PARAMETER model x`` is equivalent to FROM."""
MESSAGE: Final = "message"
PARAMETER: Final = "parameter"
ROLES: Final = ("system", "user", "assistant")

_WORDS = (
    "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", PARAMETER, MESSAGE,
    "requires",
)  # fmt: skip
INSTRUCTIONS: Final = frozenset({FROM, *_WORDS} - {"from", PARAMETER})
"""The names of all instructions except those that set a parameter."""

_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Any first character that does not begin a comment is part of the word and validated with it.
_WORD = re.compile(r".[A-Za-z]*")
_KEY = re.compile(r"[A-Za-z0-9_]*")
_ROLE = re.compile(r"[A-Za-z]*")
_END_OF_FILE = "unexpected EOF"


class ModelfileError(ValueError):
    """Invalid Modelfile; the message is for the user.

    ``line`` counts from 1 and is None if the error has no position in the file.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"(line {line}): {message}")
        self.line = line


@dataclass(frozen=True)
class Instruction:
    """Instruction of a Modelfile.

    ``name`` is one of :data:`INSTRUCTIONS`, else the key of a parameter, which consists of letters,
    digits and ``_`` if it was parsed. The value of a message is ``role: text``.
    """

    name: str
    value: str


@dataclass(frozen=True)
class _Line:
    """Line with its number from 1 and the newline character after it, "" at the end of the file."""

    number: int
    text: str
    newline: str


def parse_modelfile(source: str | bytes) -> tuple[Instruction, ...]:
    """Parse a Modelfile to its instructions, in order.

    Bytes are UTF-8, or UTF-16 if they begin with its byte order mark. Raises ModelfileError, also if
    there is no FROM.
    """
    text = _decode(source) if isinstance(source, bytes) else source.removeprefix("\ufeff")
    instructions = tuple(_instructions(text))
    if not any(instruction.name == FROM for instruction in instructions):
        raise ModelfileError("no FROM line")
    return instructions


def _decode(data: bytes) -> str:
    for mark, encoding in _ENCODINGS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    return data.decode("utf-8", "replace")


def _instructions(text: str) -> Iterator[Instruction]:
    lines = (_Line(number, *line) for number, line in enumerate(split_lines(text), 1))
    for line in lines:
        begin = len(line.text) - len(line.text.lstrip(BLANKS))
        if begin == len(line.text) or line.text[begin] == "#":
            continue
        word, position = _word(line, begin)
        name, role = word, ""
        if word == "from":
            name = FROM
        elif word == PARAMETER:
            name, position = _argument(line, position, _KEY)
        elif word == MESSAGE:
            role, position = _argument(line, position, _ROLE)
            if role not in ROLES:
                raise ModelfileError(
                    'message role must be one of "system", "user", or "assistant"', line.number
                )
        value = _value(line.text[position:], line, lines)
        yield Instruction(name, f"{role}: {value}" if role else value)


def _word(line: _Line, begin: int) -> tuple[str, int]:
    """Return the word of an instruction in lower case and the position after the blank that follows."""
    match = _WORD.match(line.text, begin)
    end = match.end() if match else begin
    if end == len(line.text):
        if not line.newline:
            raise ModelfileError(_END_OF_FILE)
        # The newline after the word is the error, and Ollama has counted it by then.
        raise _invalid_command(line.number + 1)
    word = printable(line.text[begin:end]).lower()
    if line.text[end] not in BLANKS or word not in _WORDS:
        raise _invalid_command(line.number)
    return word, end + 1


def _invalid_command(line: int) -> ModelfileError:
    words = ", ".join(f'"{word}"' for word in _WORDS[:-1])
    return ModelfileError(f'command must be one of {words}, or "{_WORDS[-1]}"', line)


def _argument(line: _Line, begin: int, form: re.Pattern[str]) -> tuple[str, int]:
    """Return the argument between an instruction and its value, and the position of the value."""
    match = form.match(line.text, begin)
    end = match.end() if match else begin
    argument = line.text[begin:end]
    if end == len(line.text) and not line.newline:
        raise ModelfileError(_END_OF_FILE)
    if end == len(line.text) or line.text[end] not in BLANKS:
        raise ModelfileError(f"{_END_OF_FILE}: {argument}")
    return argument, end + 1


def _value(first: str, line: _Line, following: Iterator[_Line]) -> str:
    """Read the value that begins with ``first``, the rest of ``line``."""
    reader = ValueReader()
    complete = reader.add(first)
    while not complete:
        if not line.newline:
            raise ModelfileError(_END_OF_FILE)
        reader.add_newline(line.newline)
        line = next(following)
        complete = reader.add(line.text)
    return reader.value()
