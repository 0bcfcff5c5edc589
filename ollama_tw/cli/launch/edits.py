"""Changes to configuration files that can be undone although the user edits the files meanwhile. Pure.

JSON keys get the values that they had; sections of TOML and lines of YAML are removed by their marks.
"""

import copy
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ollama_tw.errors import reason_of

_BEGIN, _END = "# ollama launch: begin", "# ollama launch: end"
_DISABLED = "# ollama launch: was: "
_HEADER = re.compile(r"^\s*\[", re.MULTILINE)


class EditError(ValueError):
    """A file that cannot be edited; the text is the predicate of a sentence about it."""


class Edit(Protocol):
    """A change of the file ``path``. Texts are "" for a file that does not exist."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def applied(self, text: str) -> str:
        """Return the changed text, the same if applied again; raises EditError."""
        ...

    def undone(self, text: str, original: str) -> str:
        """Return the text without the change; ``original`` is the one before the first. Raises EditError."""
        ...


@dataclass(frozen=True)
class JsonEdit:
    """Sets keys of a JSON object, each named by the keys on the way to it.

    ``defaults`` are set where they are missing.
    """

    path: Path
    values: Mapping[tuple[str, ...], Any]
    defaults: Mapping[tuple[str, ...], Any] = field(default_factory=dict)

    def applied(self, text: str) -> str:
        """Set the keys; objects on the way are created."""
        document = _decoded(text)
        for keys, value in (*self.values.items(), *self.defaults.items()):
            holder = document
            for key in keys[:-1]:
                inner = holder.setdefault(key, {})
                if not isinstance(inner, dict):
                    raise EditError(f'has something other than an object at "{key}"')
                holder = inner
            if keys in self.values or keys[-1] not in holder:
                holder[keys[-1]] = value
        return _encoded(document)

    def undone(self, text: str, original: str) -> str:
        """Set the keys to their original values; remove those that did not exist."""
        document, before = _decoded(text), _decoded(original)
        for keys in (*self.values, *self.defaults):
            _restore(document, before, keys)
        return _encoded(document) if document or original else ""


@dataclass(frozen=True)
class TomlEdit:
    """Writes sections of a TOML file that belong to this program alone."""

    path: Path
    sections: Mapping[str, Mapping[str, str]]

    def applied(self, text: str) -> str:
        """Append the sections, in place of earlier ones."""
        result = self.undone(text, "").rstrip("\n")
        result += "\n\n" if result else ""
        blocks = [
            "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])
            for name, values in self.sections.items()
        ]
        return _checked_toml(result + "\n\n".join(blocks) + "\n")

    def undone(self, text: str, original: str) -> str:
        """Remove the sections."""
        _checked_toml(text)
        for name in self.sections:
            found = re.search(rf"^\[{re.escape(name)}\][^\n]*\n?", text, re.MULTILINE)
            if found is not None:
                following = _HEADER.search(text, found.end())
                end = following.start() if following is not None else len(text)
                text = text[: found.start()] + text[end:]
        text = text.rstrip("\n")
        return _checked_toml(text + "\n" if text else "")


@dataclass(frozen=True)
class WholeFile:
    """Writes a file that belongs to this program alone."""

    path: Path
    text: str

    def applied(self, text: str) -> str:
        """Return the text of the file."""
        return self.text

    def undone(self, text: str, original: str) -> str:
        """Return what the file contained before."""
        return original


@dataclass(frozen=True)
class YamlEdit:
    """Sets keys at the top level of a YAML file, and adds items at the beginning of lists there.

    ``items`` are the lines of an item without its indentation, the first one with its ``- ``. ``head`` is
    written only into a new file.
    """

    path: Path
    values: Mapping[str, str]
    items: Mapping[str, Sequence[str]]
    head: str = ""

    def applied(self, text: str) -> str:
        """Set the keys and add the items; lines with other values are disabled."""
        text = self.undone(text, text) if text else self.head
        if text and not text.endswith("\n"):
            text += "\n"
        appended = []
        for key, lines in self.items.items():
            found = re.search(rf"^{key}:[ \t]*(\[\][ \t]*)?(#.*)?\n", text, re.MULTILINE)
            if found is None and re.search(rf"^{key}:", text, re.MULTILINE):
                raise EditError(f'has "{key}" in one line: write it as a list of lines')
            if found is None or found[1]:
                text = text if found is None else _disabled(text, found)
                appended += [f"{key}:", *(f"  {line}" for line in lines)]
                continue
            first = re.compile(r"(?:[ \t]*(?:#.*)?\n)*([ \t]*)-[ \t]").match(text, found.end())
            indent = first[1] if first is not None else "  "
            block = [_BEGIN, *lines, _END]
            added = "".join(f"{indent}{line}\n" for line in block)
            text = text[: found.end()] + added + text[found.end() :]
        for key, value in self.values.items():
            found = re.search(rf"^{key}:.*\n", text, re.MULTILINE)
            text = text if found is None else _disabled(text, found)
            appended.append(f"{key}: {json.dumps(value)}")
        return text + ("\n".join([_BEGIN, *appended, _END]) + "\n" if appended else "")

    def undone(self, text: str, original: str) -> str:
        """Remove what was added, and enable what was disabled."""
        kept: list[str] = []
        inside = False
        for line in text.splitlines(keepends=True):
            mark = line.strip()
            if mark == _BEGIN:
                inside = True
            elif mark == _END:
                inside = False
            elif not inside:
                kept.append(line.removeprefix(_DISABLED))
        if inside:
            raise EditError(f'lacks the line "{_END}"')
        result = "".join(kept)
        return "" if not original and result == self.head else result


def _disabled(text: str, found: re.Match[str]) -> str:
    return f"{text[: found.start()]}{_DISABLED}{text[found.start() :]}"


def _decoded(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise EditError(f"is not plain JSON ({reason_of(error)}): comments cannot be kept") from error
    if not isinstance(value, dict):
        raise EditError("is not a JSON object")
    return value


def _encoded(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _restore(document: dict[str, Any], before: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Give the key at the end of ``keys`` its value in ``before``; remove objects that were not there."""
    key, *rest = keys
    if key not in document:
        return
    if not rest:
        if key in before:
            document[key] = copy.deepcopy(before[key])
        else:
            del document[key]
        return
    inner, earlier = document[key], before.get(key)
    if isinstance(inner, dict):
        _restore(inner, earlier if isinstance(earlier, dict) else {}, rest)
        if not inner and key not in before:
            del document[key]


def _checked_toml(text: str) -> str:
    try:
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise EditError(f"is not valid TOML: {reason_of(error)}") from error
    return text
