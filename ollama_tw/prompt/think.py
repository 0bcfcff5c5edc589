"""The ``think`` value of a request: whether a model reasons before it answers, and how hard.

Source: ``spec/inference-api.md`` section 1.5.
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
    """What was asked for; ``enabled`` is None where nothing was said."""

    enabled: bool | None = None
    level: str = ""
    """The word that was given, empty for a boolean."""

    @property
    def template_value(self) -> bool | str | None:
        """What templates of both kinds take as ``think``."""
        return self.level or self.enabled


def parse_think(value: Any) -> Think:
    """``value`` as it was decoded from JSON; raises :class:`OllamaError` 400 for what is no think value."""
    if value is None:
        return Think()
    if isinstance(value, bool):
        return Think(value)
    if not isinstance(value, str):
        raise OllamaError(400, f"think must be a boolean or string ({_ALLOWED})")
    if value not in _LEVELS:
        quoted = json.dumps(value, ensure_ascii=False)
        raise OllamaError(400, f"invalid think value: {quoted} (must be {_ALLOWED})")
    return Think(True, value)


def settle_think(think: Think, *, model: str, capable: bool, harmony: bool = False) -> Think:
    """What holds for a model that is ``capable`` of thinking or not.

    ``model`` is its name as the client sent it, for the error 400 that thinking gets from a model
    that cannot. A capable model thinks unless told not to.
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
