"""States of prompts that outlive the unloading of their models.

A model is loaded again with the states that its runner returned when it was unloaded.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from twisted.logger import Logger

from ollama_tw.engine.state_files import StateFiles
from ollama_tw.interfaces import IPromptStates, IRunner, LoadPlan, PromptCacheFigures, PromptState

_log = Logger()

_MIB = 1 << 20

# Limit of writing the states of one model, and of waiting for it when the server stops.
_WRITE_SECONDS = 20.0

# Runners with equal values of these fields understand each other's states.
_IDENTITY = ("model_path", "adapter_paths", "projector_paths", "kv_cache_type", "flash_attention")


def identity(plan: LoadPlan, engine: str = "") -> str:
    """Return what a state depends on. The path of a model in the library contains its digest.

    ``engine`` is the name and the version of what evaluates the model.
    """
    return repr((engine, *(getattr(plan, name) for name in _IDENTITY)))


class ParkedStates:
    """States of models that are not loaded, of the most recently unloaded ones within a budget in bytes.

    ``files`` keeps them over a restart, None for nowhere; ``engine`` is as in :func:`identity`. Methods
    may be called on any thread.
    """

    def __init__(self, files: StateFiles | None = None, engine: str = "") -> None:
        self._files = files
        self._engine = engine
        self._writer = ThreadPoolExecutor(1, "states") if files else None
        self._writing: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._budget = 0
        # From the least to the most recently unloaded model.
        self._models: OrderedDict[str, list[PromptState]] = OrderedDict()

    @property
    def durable(self) -> bool:
        """True if the states outlive the server."""
        return self._files is not None

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
            key = identity(plan, self._engine)
            with self._lock:
                self._models[key] = states
            self._write(key, states)
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
        key = identity(plan, self._engine)
        with self._lock:
            states = self._models.pop(key, None)
        if states is None and self._files is not None and plan.prompt_cache:
            states = self._files.read(key, plan.prompt_cache)
        if states and IPromptStates.providedBy(runner):
            runner.give_states(states)

    def _write(self, key: str, states: list[PromptState]) -> None:
        if self._files is None or self._writer is None:
            return
        deadline = time.monotonic() + _WRITE_SECONDS
        writing = self._writer.submit(self._files.write, key, list(states), deadline)
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    def close(self) -> None:
        """Wait until all states are written, up to 20 seconds. Blocking."""
        wait(set(self._writing), _WRITE_SECONDS)
        if self._writer is not None:
            self._writer.shutdown(wait=False, cancel_futures=True)

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


def figures_of(runners: Sequence[IRunner]) -> PromptCacheFigures:
    """Return the sums of the runners' counters."""
    found = (runner.state_figures for runner in runners if IPromptStates.providedBy(runner))
    return sum(found, PromptCacheFigures())


def drop_states(runners: Sequence[IRunner]) -> None:
    """Drop the states of loaded models, which save no more of them. Blocking."""
    for runner in runners:
        if IPromptStates.providedBy(runner):
            runner.limit_states(0)
