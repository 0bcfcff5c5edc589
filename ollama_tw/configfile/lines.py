"""Line numbers of the keys of a TOML document, which the standard library's parser does not keep."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

KeyPath = tuple[str, ...]


def line_numbers(text: str) -> dict[KeyPath, int]:
    """Return the line in which each key and table of ``text``, a valid document, begins; from 1 on.

    A key is new in the shortest beginning of the document that is valid and has it. Its line is the one after
    the longest valid beginning without it.
    """
    found: dict[KeyPath, int] = {}
    lines = text.splitlines()
    valid = 0
    for count in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        for path in _paths(document):
            found.setdefault(path, valid + 1)
        valid = count
    return found


def _paths(table: Mapping[str, Any], parent: KeyPath = ()) -> Iterator[KeyPath]:
    for key, value in table.items():
        path = (*parent, key)
        yield path
        if isinstance(value, dict):
            yield from _paths(value, path)
