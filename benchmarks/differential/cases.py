"""Requests of the differential run, read from ``requests/*.json``.

A file is a list of groups: ``name``, ``path``, ``method`` (POST unless given), ``headers``, and ``body``, a
JSON value, or ``text``, sent as it is. ``vary`` lists changes, each of which gives one case: an object is
merged into the body, in depth; a string replaces the text; a group without it is one case. ``generated``
marks replies with the output of a model, which depends on the engine.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REQUESTS = Path(__file__).parent / "requests"


@dataclass(frozen=True)
class Case:
    """One request; ``name`` is unique."""

    name: str
    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    generated: bool = False


def read_cases(models: Mapping[str, str], directory: Path = REQUESTS) -> list[Case]:
    """Return the cases of all files, in the order of their names. Raises ValueError if a name is not unique.

    Each ``{KEY}`` in a request, KEY in ``models``, is replaced by its value.
    """
    cases: list[Case] = []
    for path in sorted(directory.glob("*.json")):
        text = path.read_text("utf-8")
        for key, value in models.items():
            text = text.replace("{" + key + "}", value)
        for group in json.loads(text):
            cases += _cases(path.stem, group)
    names = [case.name for case in cases]
    if len(set(names)) != len(names):
        raise ValueError("two groups of requests have the same name")
    return cases


def _cases(stem: str, group: Mapping[str, Any]) -> Iterator[Case]:
    changes = group.get("vary", [None])
    for number, change in enumerate(changes):
        yield Case(
            name=f"{stem}/{group['name']}" + (f"/{number}" if "vary" in group else ""),
            method=group.get("method", "POST"),
            path=group["path"],
            body=_body(group, change),
            headers=group.get("headers", {}),
            generated=group.get("generated", False),
        )


def _body(group: Mapping[str, Any], change: Any) -> bytes | None:
    if isinstance(change, str):
        return change.encode()
    if "text" in group:
        return str(group["text"]).encode()
    if "body" not in group and change is None:
        return None
    return json.dumps(merged(group.get("body", {}), change), ensure_ascii=False).encode()


def merged(value: Any, change: Any) -> Any:
    """Return ``value`` with the members of ``change``; objects are merged, all else is replaced."""
    if not isinstance(value, dict) or not isinstance(change, dict):
        return value if change is None else change
    members = {
        key: merged(value[key], member) if isinstance(member, dict) and key in value else member
        for key, member in change.items()
    }
    return {**value, **members}
