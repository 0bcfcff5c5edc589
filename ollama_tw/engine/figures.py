"""Figures of the engine for the metrics: of the loaded models, and totals of those that were unloaded."""

from collections.abc import Collection

from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.engine.parked_states import bytes_of, figures_of
from ollama_tw.interfaces import IRunner, PromptCacheFigures
from ollama_tw.metrics import EngineState, LoadedModelState


class EngineFigures:
    """Counters that do not go back when a model is unloaded."""

    def __init__(self) -> None:
        # Totals of the models that were unloaded.
        self._steps = self._runs = 0
        self._cache = PromptCacheFigures()

    def add_unloaded(self, runner: IRunner) -> None:
        """Add the counters of a runner that is being unloaded to the totals."""
        self._steps += getattr(runner, "steps", 0)
        self._runs += getattr(runner, "step_runs", 0)
        self._cache += figures_of([runner])

    def state(self, loaded: Collection[LoadedModel], waiting: int, parked_bytes: int) -> EngineState:
        """Return the figures, with the ``loaded`` models and the bytes of parked states."""
        runners = [one.runner for one in loaded]
        return EngineState(
            waiting=waiting,
            models=tuple(
                LoadedModelState(one.runner.size, one.runner.size_gpu, one.slots, one.running)
                for one in loaded
            ),
            steps=self._steps + sum(getattr(runner, "steps", 0) for runner in runners),
            runs=self._runs + sum(getattr(runner, "step_runs", 0) for runner in runners),
            cache=self._cache + figures_of(runners),
            state_bytes=bytes_of(runners),
            parked_bytes=parked_bytes,
        )
