"""Findings of the checks, and their form on a terminal."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]

_COLOURS: dict[Level, str] = {"ok": "green", "warning": "yellow", "problem": "red"}
_SUBJECT_COLUMNS = 11
_LEVEL_COLUMNS = 9
_NARROWEST = 30


@dataclass(frozen=True)
class Finding:
    """Result of a check: what was found, and what to do about it, "" for nothing.

    A ``problem`` keeps the server or a command from working, a ``warning`` may.
    """

    level: Level
    subject: str
    text: str
    remedy: str = ""


def lines(finding: Finding, columns: int) -> Iterator[tuple[str, str]]:
    """Yield the lines of a finding, wrapped to ``columns``, each with the colour of its first word or ""."""
    margin = " " * (_LEVEL_COLUMNS + _SUBJECT_COLUMNS)
    width = max(columns - len(margin) - 1, _NARROWEST)
    head = f"{finding.level:{_LEVEL_COLUMNS}}{finding.subject:{_SUBJECT_COLUMNS}}"
    first, *rest = _wrapped(finding.text, width) or [""]
    yield _COLOURS[finding.level], head + first
    for text in (*rest, *(_wrapped(f"To do: {finding.remedy}", width) if finding.remedy else ())):
        yield "", margin + text


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
