"""One environment variable described once: its name, how its text is read, its default, its help.

Source of the rules for reading: spec/models-and-cli.md section 9.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from ollama_tw.golang.durations import FOREVER, parse_duration, seconds_to_duration

Warn = Callable[[str], None]
"""Is told of what a user set and did not get, in one sentence."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


@dataclass(frozen=True)
class Variable(Generic[T_co]):
    """``parse`` gets a text that is not empty, and a callable for remarks; it raises ValueError
    where the default must serve. Remarks and errors are predicates of which the variable is the
    subject ("is not a whole number"). ``default`` is written as a user would write it. A
    ``switch`` needs no value where it is given as an option of a command.
    """

    name: str
    parse: Callable[[str, Warn], T_co]
    default: str
    help: str
    switch: bool = False

    @property
    def option(self) -> str:
        """The name of the command line option: ``OLLAMA_MAX_QUEUE`` is ``max-queue``."""
        return self.name.removeprefix("OLLAMA_").lower().replace("_", "-")

    @property
    def summary(self) -> str:
        """The help and, in brackets, the default."""
        return f"{self.help} (default {self.default})" if self.default else self.help

    def read(self, environ: Mapping[str, str], warn: Warn) -> T_co:
        """The value set in ``environ``, else the default; ``warn`` hears of what was not usable."""
        text = environ.get(self.name, "").strip().strip("\"'")

        def note(remark: str) -> None:
            warn(f'{self.name}="{text}" {remark}')

        if text:
            try:
                return self.parse(text, note)
            except ValueError as error:
                note(f"{error}; using the default {self.default}")
        return self.parse(self.default, note)


def string(text: str, note: Warn) -> str:
    return text


def boolean(text: str, note: Warn) -> bool:
    """As Go's ParseBool; any other text is true, which the user is told."""
    if text in _FALSE:
        return False
    if text not in _TRUE:
        note("is taken as true: the values are 1 or true, and 0 or false")
    return True


def verbosity(text: str, note: Warn) -> bool:
    """A boolean, or a level: numbers above 0 are true. Here, unlike elsewhere, junk is not true."""
    if text in _TRUE or (re.fullmatch("[0-9]+", text) and text.strip("0")):
        return True
    if text in _FALSE or re.fullmatch("-?[0-9]+", text):
        return False
    raise ValueError("is neither 1 or true nor 0 or false")


def optional(parse: Callable[[str, Warn], T]) -> Callable[[str, Warn], T | None]:
    """``parse``, with the word ``auto`` for None."""
    return lambda text, note: None if text == "auto" else parse(text, note)


def whole_number(minimum: int, maximum: int) -> Callable[[str, Warn], int]:
    """Decimal digits without a sign, within bounds that are both allowed."""

    def parse(text: str, note: Warn) -> int:
        if not re.fullmatch("[0-9]{1,20}", text):
            raise ValueError("is not a whole number")
        value = int(text)
        if not minimum <= value <= maximum:
            raise ValueError(f"is not from {minimum} to {maximum}")
        return value

    return parse


def duration(text: str, note: Warn) -> int:
    """Nanoseconds of a Go duration or of a number of seconds; negative is FOREVER."""
    try:
        nanoseconds = parse_duration(text)
    except ValueError:
        if not re.fullmatch("[+-]?[0-9]{1,19}", text):
            raise ValueError("is not a duration such as 30s, 5m or -1") from None
        return seconds_to_duration(int(text))
    return FOREVER if nanoseconds < 0 else nanoseconds


def timeout(text: str, note: Warn) -> int:
    """A duration of which zero, too, is FOREVER."""
    return duration(text, note) or FOREVER


def choice(*values: str) -> Callable[[str, Warn], str]:
    """One of ``values``, in upper or lower case."""

    def parse(text: str, note: Warn) -> str:
        if text.lower() not in values:
            raise ValueError(f"is not one of {', '.join(values)}")
        return text.lower()

    return parse
