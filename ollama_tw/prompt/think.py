"""The ``think`` value of a request: thinking on or off, its level, or its maximum number of tokens.

Source: ollama: api/types.go, ThinkValue; server/routes.go, ChatHandler.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from ollama_tw.errors import OllamaError

_LEVELS = ("high", "medium", "low", "max")
_ALLOWED = '"high", "medium", "low", "max", true, or false'


@dataclass(frozen=True)
class Think:
    """Requested thinking; ``enabled`` is None if the request does not set it."""

    enabled: bool | None = None
    level: str = ""
    """The requested level, empty for a boolean or a number."""
    budget: int | None = None
    """The requested maximum number of tokens, None for no limit."""

    @property
    def template_value(self) -> bool | str | None:
        """The ``think`` argument of both kinds of templates."""
        return self.level or self.enabled

    def limited(self, budget: int) -> "Think":
        """Return these values with at most ``budget`` tokens, negative for no further limit."""
        given = [limit for limit in (self.budget, budget) if limit is not None and limit >= 0]
        return dataclasses.replace(self, budget=min(given, default=None))


def parse_think(value: Any) -> Think:
    """Parse the decoded JSON ``value``. Raises :class:`OllamaError` 400 if it is invalid."""
    if value is None:
        return Think()
    if isinstance(value, bool):
        return Think(value)
    if isinstance(value, int):
        if value < 0:
            raise OllamaError(400, "a number of tokens as think must not be negative")
        return Think(value > 0, budget=value or None)
    if not isinstance(value, str):
        raise OllamaError(400, f"think must be a boolean or string ({_ALLOWED})")
    if value not in _LEVELS:
        quoted = json.dumps(value, ensure_ascii=False)
        raise OllamaError(400, f"invalid think value: {quoted} (must be {_ALLOWED})")
    return Think(True, value)


def resolve_think(think: Think, *, model: str, capable: bool, harmony: bool = False) -> Think:
    """Return the effective value for a model that is ``capable`` of thinking or not.

    ``model`` is its name as the client sent it, for the error. A capable model thinks by default. Raises
    :class:`OllamaError` 400 if thinking is requested from a model without that capability.
    """
    if not capable:
        if think.enabled:
            raise OllamaError(400, f'"{model}" does not support thinking')
        return think
    if think.enabled is None:
        return Think(True)
    if harmony and think.level == "max":
        return dataclasses.replace(think, level="high")
    return think
