"""Rules of eviction: which model is unloaded for another one, and when. Pure.

Source: ollama: server/sched.go, findRunnerToUnload, which sorts by keep_alive alone; docs/scheduling.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ollama_tw.engine.loaded_model import LoadedModel

# A model stays for so many times the duration of its load before another one takes its place, at most for so
# many seconds: the machine then loads models for a third of its time at most.
_STAY_FACTOR = 2.0
_MAX_STAY = 60.0

RETURN_WINDOW = 60.0
"""Seconds after its eviction in which a model that is requested again is one that returns."""


@dataclass(frozen=True)
class Claim:
    """Claim of a request of ``client`` to the place of another model.

    ``busy_from`` is the time from which it may take that of a model in use.
    """

    client: str
    busy_from: float


class RecentEvictions:
    """Keys of the models that were evicted for others within the last :data:`RETURN_WINDOW` seconds."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}

    def add(self, key: str, now: float) -> None:
        """Add a model that was evicted ``now``."""
        self._times = {one: when for one, when in self._times.items() if now - when < RETURN_WINDOW}
        self._times[key] = now

    def include(self, key: str, now: float) -> bool:
        """Return whether the model was evicted lately."""
        return key in self._times and now - self._times[key] < RETURN_WINDOW


def evictable_from(model: LoadedModel, claim: Claim, *, returns: bool) -> float:
    """Return the time from which ``model`` may be evicted for another one.

    ``returns``: the other was itself evicted lately. An idle model then stays for its time as well, unless
    its last use was by the same client, which no other one would gain from.
    """
    stay = model.loaded_at + min(_STAY_FACTOR * model.load_seconds, _MAX_STAY)
    if model.idle:
        return stay if returns and model.last_client != claim.client else 0.0
    return max(stay, claim.busy_from)


def select_victim(models: Iterable[LoadedModel]) -> LoadedModel | None:
    """Return the model to evict for one more: idle first, then shortest keep_alive, then earliest expiry."""
    return min(models, key=lambda one: (not one.idle, one.keep_alive, one.expires_at), default=None)


def select_idle(loaded: Iterable[LoadedModel]) -> list[LoadedModel]:
    """Return the models to evict when the backend is out of memory though a model should have fit."""
    return [one for one in loaded if one.idle and not one.pinned]
