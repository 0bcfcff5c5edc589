"""Eviction order of the loaded models. Pure.

Source: ollama: server/sched.go, findRunnerToUnload, which sorts by keep_alive alone.
"""

from collections.abc import Iterable

from ollama_tw.engine.loaded_model import LoadedModel


def select_victim(loaded: Iterable[LoadedModel]) -> LoadedModel:
    """Return the model to evict for one more: idle first, then shortest keep_alive, then earliest expiry."""
    return min(loaded, key=lambda one: (not one.idle, one.keep_alive, one.expires_at))


def select_idle(loaded: Iterable[LoadedModel]) -> list[LoadedModel]:
    """Return the models to evict when the backend is out of memory though a model should have fit."""
    return [one for one in loaded if one.idle]
