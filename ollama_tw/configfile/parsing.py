"""Parses ``ollama.toml`` and finds all its mistakes. Pure."""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ollama_tw.config.declaration import SettingsError, Variable
from ollama_tw.config.settings import VARIABLES
from ollama_tw.configfile.document import Alias, Document, Mistake, ModelConfig, alias_key
from ollama_tw.configfile.lines import KeyPath, line_numbers
from ollama_tw.configfile.models import KEYS, read_model
from ollama_tw.errors import OllamaError, reason_of
from ollama_tw.library.names import parse_reference

SETTINGS: Mapping[str, Variable[object]] = {
    variable.name.removeprefix("OLLAMA_").lower(): variable
    for variable in VARIABLES
    if variable.name not in ("OLLAMA_CONFIG", "OLLAMA_MODELS")
}
"""The variables that the file may set, by their keys: ``num_parallel`` is ``OLLAMA_NUM_PARALLEL``."""

_TABLES = ("models", "aliases")
_NOT_A_TABLE = {
    "models": 'models is not a table [models."NAME"]; OLLAMA_MODELS sets the models directory',
    "aliases": "aliases is not a table: write [aliases]",
}
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def model_key(text: str) -> str:
    """Return the key of a model in ``Document.models``. Raises OllamaError 400 for an invalid name."""
    return parse_reference(text).name.short.lower()


def parse_document(text: str, path: Path | None = None) -> Document:
    """Return the document ``text`` with what is valid in it, and all its mistakes in the order of lines."""
    try:
        return _Reader(tomllib.loads(text), text).read(path)
    except tomllib.TOMLDecodeError as error:
        return Document(path, mistakes=(_syntax(str(error), text),))
    except RecursionError as error:
        return Document(path, mistakes=(Mistake(0, reason_of(error)),))


def _syntax(message: str, text: str) -> Mistake:
    found = _PLACE.search(message)
    line = int(found[1]) if found and found[1] else max(1, len(text.splitlines()))
    reason = message[: found.start()] if found else message
    return Mistake(line, f"this is not TOML: {reason[:1].lower()}{reason[1:]}")


class _Reader:
    """Reads one document. Line numbers are found when the first is needed."""

    def __init__(self, document: Mapping[str, Any], text: str) -> None:
        self._document = document
        self._text = text
        self._numbers: dict[KeyPath, int] | None = None
        self._mistakes: list[Mistake] = []
        self._lines: dict[KeyPath, int] = {}

    def read(self, path: Path | None) -> Document:
        settings = self._settings()
        models = self._models()
        aliases = self._aliases()
        return Document(
            path,
            settings,
            self._lines,
            models,
            aliases,
            tuple(sorted(self._mistakes)),
        )

    def _line(self, path: KeyPath) -> int:
        if self._numbers is None:
            self._numbers = line_numbers(self._text)
        while path and path not in self._numbers:
            path = path[:-1]
        return self._numbers.get(path, 1)

    def _mistake(self, path: KeyPath, text: str) -> None:
        self._mistakes.append(Mistake(self._line(path), text))

    # ----------------------------------------------------------------------------------- settings

    def _settings(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for key, value in self._document.items():
            if key in _TABLES:
                continue
            variable = SETTINGS.get(key)
            if variable is None:
                kind = "table" if isinstance(value, dict) else "setting"
                self._mistake((key,), f'there is no {kind} "{key}"{_suggestion(key, (*SETTINGS, *_TABLES))}')
                continue
            text = _text_of(value)
            if text is None:
                self._mistake((key,), f"{key} is not a text, a number, true, false or a list of texts")
            elif self._is_valid(key, variable, text):
                found[variable.name] = text
                self._lines[key,] = self._line((key,))
        return found

    def _is_valid(self, key: str, variable: Variable[object], text: str) -> bool:
        remarks: list[str] = []
        try:
            variable.parse(text, remarks.append)
        except ValueError as error:
            remarks.append(str(error))
        except SettingsError as error:
            remarks.append(str(error).partition(": ")[2])
            self._mistake((key,), f"{key}: {remarks[-1]}")
            return False
        for remark in remarks:
            self._mistake((key,), f'{key} = "{text}" {remark}')
        return not remarks

    # ------------------------------------------------------------------------------------- models

    def _models(self) -> dict[str, ModelConfig]:
        found: dict[str, ModelConfig] = {}
        for name, table in self._table("models").items():
            path = ("models", name)
            if not isinstance(table, dict):
                self._mistake(path, f'models."{name}" is not a table: write [models."{name}"]')
                continue
            try:
                key = model_key(name)
            except OllamaError:
                self._mistake(path, f'"{name}" is not the name of a model')
                continue
            if key in found:
                self._mistake(path, f'the model "{name}" has a table already, under another spelling')
            for unknown in table.keys() - set(KEYS):
                self._mistake(
                    (*path, unknown), f'there is no setting "{unknown}" of models{_suggestion(unknown, KEYS)}'
                )
            found[key] = read_model(table, self._reporter(path))
            for set_key, value in table.items():
                self._lines["models", key, set_key] = self._line((*path, set_key))
                for option in value if isinstance(value, dict) else ():
                    self._lines["models", key, set_key, option] = self._line((*path, set_key, option))
        return found

    def _reporter(self, path: KeyPath) -> Callable[[KeyPath, str], None]:
        return lambda below, text: self._mistake((*path, *below), text)

    # ------------------------------------------------------------------------------------ aliases

    def _aliases(self) -> dict[str, Alias]:
        table = self._table("aliases")
        found: dict[str, Alias] = {}
        for alias, target in table.items():
            path = ("aliases", alias)
            if not isinstance(target, str):
                self._mistake(path, f'the alias "{alias}" is not followed by the name of a model in quotes')
                continue
            try:
                parse_reference(alias)
                parse_reference(target)
            except OllamaError as error:
                self._mistake(path, f'the alias "{alias}" = "{target}": {error.message}')
                continue
            found[alias_key(alias)] = Alias(alias, target)
            self._lines[path] = self._line(path)
        for alias, target in table.items():
            if isinstance(target, str) and alias_key(target) in found:
                self._mistake(
                    ("aliases", alias), f'the alias "{alias}" leads to another alias: give the model itself'
                )
        return found

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self._document.get(name, {})
        if isinstance(table, dict):
            return table
        self._mistake((name,), _NOT_A_TABLE[name])
        return {}


def _text_of(value: Any) -> str | None:
    """Return ``value`` as it would be written in an environment variable; None for what cannot be."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return None


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f": did you mean {close[0]}?" if close else ""
