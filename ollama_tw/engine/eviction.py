"""Rules of eviction: which model gives way to another one, and when. Pure.

Source: ollama: server/sched.go, findRunnerToUnload, which sorts by keep_alive alone; docs/scheduling.md.
"""

from collections.abc import Iterable

from ollama_tw.engine.loaded_model import LoadedModel

# A model stays for so many times the duration of its load before another one takes its place, at most for so
# many seconds: the machine then loads models for a third of its time at most.
_STAY_FACTOR = 2.0
_MAX_STAY = 60.0

RETURN_WINDOW = 60.0
"""Seconds after its eviction in which a model that is requested again is one that returns."""


def evictable_from(model: LoadedModel, *, busy_from: float, returns: bool) -> float:
    """Return the time from which ``model`` may be evicted for another one.

    ``busy_from``: the time from which the other may take the place of a model that is in use.
    ``returns``: the other was itself evicted lately; an idle model then stays for its time, too.
    """
    stay = model.loaded_at + min(_STAY_FACTOR * model.load_seconds, _MAX_STAY)
    if model.idle:
        return stay if returns else 0.0
    return max(stay, busy_from)


def select_victim(models: Iterable[LoadedModel]) -> LoadedModel | None:
    """Return the model to evict for one more: idle first, then shortest keep_alive, then earliest expiry."""
    return min(models, key=lambda one: (not one.idle, one.keep_alive, one.expires_at), default=None)


def select_idle(loaded: Iterable[LoadedModel]) -> list[LoadedModel]:
    """Return the models to evict when the backend is out of memory though a model should have fit."""
    return [one for one in loaded if one.idle and not one.pinned]
