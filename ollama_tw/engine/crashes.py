"""Refusal of models whose runner processes die repeatedly. Pure: times are given, in seconds."""

from collections import deque

from ollama_tw.errors import OllamaError

_DEATHS = 3
_WITHIN = 60.0
_REFUSED_FOR = 60.0


class Crashes:
    """Deaths of the runner processes of each model, by the path of the model."""

    def __init__(self) -> None:
        self._deaths: dict[str, deque[float]] = {}
        self._refused: dict[str, tuple[float, str]] = {}

    def note(self, key: str, reason: str, now: float) -> None:
        """Note a death; ``reason`` is a predicate. The third within a minute has the model refused."""
        deaths = self._deaths.setdefault(key, deque(maxlen=_DEATHS))
        deaths.append(now)
        if len(deaths) == _DEATHS and now - deaths[0] <= _WITHIN:
            self._refused[key] = now + _REFUSED_FOR, reason
            del self._deaths[key]

    def check(self, key: str, name: str, now: float) -> None:
        """Raise :class:`OllamaError` 503 for a model that is refused at present."""
        until, reason = self._refused.get(key, (0.0, ""))
        if now < until:
            raise OllamaError(
                503,
                f'the runner of model "{name}" {reason}, the third time within a minute: '
                f"it is not loaded again for {until - now:.0f} seconds",
            )
        self._refused.pop(key, None)
