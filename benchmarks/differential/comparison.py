"""Comparison of two replies, and the list of deliberate differences."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

DIFFERENCES = Path(__file__).with_name("differences.json")

ABSENT = "<absent>"


@dataclass(frozen=True)
class Difference:
    """One value that differs: ``at`` is its path in the reply, such as ``body.error``."""

    case: str
    at: str
    reference: Any
    candidate: Any


@dataclass(frozen=True)
class Deliberate:
    """Differences that are meant: patterns of the case and of the path, and why it is so.

    Where they are given, ``reference`` and ``candidate`` are the values that the two servers have.
    """

    case: str
    at: str
    reason: str
    reference: Any = None
    candidate: Any = None

    def covers(self, difference: Difference) -> bool:
        """Return whether ``difference`` is one of these."""
        return (
            fnmatchcase(difference.case, self.case)
            and fnmatchcase(difference.at, self.at)
            and self.reference in (None, difference.reference)
            and self.candidate in (None, difference.candidate)
        )


def read_deliberate(path: Path = DIFFERENCES) -> list[Deliberate]:
    """Return the deliberate differences of the file at ``path``."""
    return [Deliberate(**fields) for fields in json.loads(path.read_text("utf-8"))]


def reason_for(difference: Difference, deliberate: Sequence[Deliberate]) -> str | None:
    """Return why ``difference`` is meant, None if it is not."""
    return next((one.reason for one in deliberate if one.covers(difference)), None)


def compare(case: str, reference: Any, candidate: Any, at: str = "") -> Iterator[Difference]:
    """Yield the differences of two values: of members, of their order, and of everything else."""
    if isinstance(reference, dict) and isinstance(candidate, dict):
        for key in [*reference, *(key for key in candidate if key not in reference)]:
            inner = f"{at}.{key}" if at else key
            yield from compare(case, reference.get(key, ABSENT), candidate.get(key, ABSENT), inner)
        common = [key for key in reference if key in candidate]
        if at and common != [key for key in candidate if key in reference]:
            yield Difference(case, f"{at}.<order>", list(reference), list(candidate))
    elif isinstance(reference, list) and isinstance(candidate, list) and len(reference) == len(candidate):
        for number, (left, right) in enumerate(zip(reference, candidate, strict=True)):
            yield from compare(case, left, right, f"{at}.{number}")
    elif type(reference) is not type(candidate) or reference != candidate:
        yield Difference(case, at, reference, candidate)
