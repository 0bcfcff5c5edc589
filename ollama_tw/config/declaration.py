"""Declaration of settings: the name, parser, default and help text of one environment variable each.

Values are read as Ollama reads them, with a warning where Ollama silently takes the default.

Source: ollama: envconfig/config.go.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Warn = Callable[[str], None]
"""Takes a warning for the user about a value that is not used as given: one sentence."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

_VARIABLE = "variable"


class SettingsError(Exception):
    """A setting with which the server must not start; the text is one sentence for the user."""


@dataclass(frozen=True)
class Variable(Generic[T_co]):
    """An environment variable.

    ``parse(text, note)`` is called with a text that is not empty. It calls ``note`` with remarks, and
    raises ValueError if the default is to be used instead. Remarks and errors are predicates whose
    subject is the variable ("is not a whole number"). ``default`` is a text as a user would write it.
    A ``switch`` has no value where it is given as a command line option.
    """

    name: str
    parse: Callable[[str, Warn], T_co]
    default: str
    help: str
    switch: bool = False
    reloaded: bool = False
    """True if a changed value in the configuration file applies without a restart."""
    option_name: str = ""
    """The name of the command line option, if it does not follow from the variable's."""

    @property
    def option(self) -> str:
        """The name of the command line option: ``OLLAMA_MAX_QUEUE`` is ``max-queue``."""
        return self.option_name or self.name.removeprefix("OLLAMA_").lower().replace("_", "-")

    @property
    def summary(self) -> str:
        """The help text and, in brackets, the default."""
        return f"{self.help} (default {self.default})" if self.default else self.help

    def is_set(self, environ: Mapping[str, str]) -> bool:
        """Return whether ``environ`` has a value that is not empty."""
        return bool(self._text(environ))

    def _text(self, environ: Mapping[str, str]) -> str:
        return environ.get(self.name, "").strip().strip("\"'")

    def read(self, environ: Mapping[str, str], warn: Warn) -> T_co:
        """Return the value set in ``environ``, else the default; call ``warn`` for an invalid one."""
        text = self._text(environ)

        def note(remark: str) -> None:
            warn(f'{self.name}="{text}" {remark}')

        if text:
            try:
                return self.parse(text, note)
            except ValueError as error:
                note(f"{error}; using the default {self.default}")
        return self.parse(self.default, note)


def setting(variable: Variable[T]) -> T:
    """Return a dataclass field whose value is read from ``variable``.

    The declared type is the value's, so that type checkers compare the parser with the annotation.
    """
    field: Any = dataclasses.field(metadata={_VARIABLE: variable})
    result: T = field
    return result


def variables_of(settings: type) -> dict[str, Variable[Any]]:
    """Return the variable of each field of the data class ``settings`` that has one, by field name."""
    return {
        field.name: field.metadata[_VARIABLE]
        for field in dataclasses.fields(settings)
        if _VARIABLE in field.metadata
    }
