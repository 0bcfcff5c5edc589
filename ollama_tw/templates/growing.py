"""Lists that a template builds and may append to.

The lists of a request cannot be changed. A list that a template has built can, but it is copied when it
is put into another container: otherwise a container could grow after its size was charged.
"""

from typing import Any, Final

from ollama_tw.templates.budget import current, weigh

METHODS: Final = frozenset({"append", "extend", "pop"})


class GrowingList(list[Any]):
    """List that a template has built itself."""


def built(value: Any) -> Any:
    """Return the value of a literal: a list may grow, and its elements no longer do."""
    if isinstance(value, dict):
        return {key: settled(item) for key, item in value.items()}
    items = [settled(item) for item in value]
    return tuple(items) if isinstance(value, tuple) else GrowingList(items)


def settled(value: Any) -> Any:
    """Return ``value``, a list that may grow as a copy that does not."""
    return list(value) if isinstance(value, GrowingList) else value


def charged(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of a method of a growing list, as they are put into it; charge their sizes."""
    for argument in arguments:
        current().reserve(weigh(argument))
    return tuple(settled(argument) for argument in arguments)
