"""States of prompts that outlive the unloading of their models.

A model is loaded again with the states that its runner returned when it was unloaded.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from twisted.logger import Logger

from ollama_tw.interfaces import IPromptStates, IRunner, LoadPlan, PromptState

_log = Logger()

_MIB = 1 << 20

# Runners with equal values of these fields understand each other's states.
_IDENTITY = ("model_path", "adapter_paths", "projector_paths", "kv_cache_type", "flash_attention")


def identity(plan: LoadPlan) -> tuple[Any, ...]:
    """Return what a state depends on. The path of a model in the library contains its digest."""
    return tuple(getattr(plan, name) for name in _IDENTITY)


class ParkedStates:
    """States of models that are not loaded, of the most recently unloaded ones within a budget in bytes.

    Methods may be called on any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._budget = 0
        # From the least to the most recently unloaded model.
        self._models: OrderedDict[tuple[Any, ...], list[PromptState]] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of all states."""
        with self._lock:
            return sum(state.size for states in self._models.values() for state in states)

    def park(self, plan: LoadPlan, runner: IRunner) -> None:
        """Take the states of a runner that is going to be closed."""
        if not plan.prompt_cache or not IPromptStates.providedBy(runner):
            return
        states = list(runner.take_states())
        if states:
            with self._lock:
                self._models[identity(plan)] = states
            size = sum(state.size for state in states)
            _log.info(
                "kept {count} states of prompts of {path}: {size} MiB",
                count=len(states),
                path=plan.model_path,
                size=size // _MIB,
            )
        self._budget = plan.prompt_cache
        self.limit(self._budget)

    def give(self, plan: LoadPlan, runner: IRunner) -> None:
        """Give a new runner the states of its model."""
        with self._lock:
            states = self._models.pop(identity(plan), None)
        if states and IPromptStates.providedBy(runner):
            runner.give_states(states)

    def make_room(self, size: int) -> None:
        """Keep within the budget beside ``size`` bytes of states of loaded models."""
        self.limit(max(0, self._budget - size))

    def limit(self, size: int) -> int:
        """Drop states of the least recently unloaded models beyond ``size`` bytes; return the bytes freed."""
        with self._lock:
            total = sum(state.size for states in self._models.values() for state in states)
            freed = 0
            while self._models and total - freed > size:
                key, states = next(iter(self._models.items()))
                freed += _drop_oldest(states, total - freed - size)
                if not states:
                    del self._models[key]
        return freed


def _drop_oldest(states: list[PromptState], size: int) -> int:
    """Remove states from the front of the list until ``size`` bytes are freed; return the bytes freed."""
    freed = 0
    while states and freed < size:
        freed += states.pop(0).size
    return freed


def bytes_of(runners: Sequence[IRunner]) -> int:
    """Return the bytes of the states that the runners hold."""
    return sum(runner.state_bytes for runner in runners if IPromptStates.providedBy(runner))


def drop_states(runners: Sequence[IRunner]) -> None:
    """Drop the states of loaded models, which save no more of them. Blocking."""
    for runner in runners:
        if IPromptStates.providedBy(runner):
            runner.limit_states(0)
