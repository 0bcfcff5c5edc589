"""Properties of a loaded model that a request requires."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.engine.memory import ModelShape
from ollama_tw.interfaces import LoadPlan


@dataclass(frozen=True)
class ModelRequirements:
    """Load plan of a request; only the context length and the fields named in ``explicit`` are binding.

    ``name`` is shown in the logs and by ``/api/ps``. ``keep_alive`` is in nanoseconds, None if the
    request does not set it. ``shape`` describes the model's memory and is called on the load thread.
    ``digest`` (of the manifest) and ``details`` describe the model in ``/api/ps`` while it is loaded.
    """

    name: str
    plan: LoadPlan
    explicit: frozenset[str] = frozenset()
    keep_alive: int | None = None
    shape: Callable[[], ModelShape] | None = None
    digest: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    pinned: bool = False
    """The model is not evicted for another one."""

    def met_by(self, loaded: LoadedModel) -> bool:
        """Return whether ``loaded`` can serve the request without being loaded again.

        A longer context than the loaded one reloads the model, also the default one: a request without
        ``num_ctx`` is not limited to what an earlier one has set. Unlike in Ollama a shorter context, and
        other fields that are not explicit, do not. Source: ollama: server/sched.go, needsReload.
        """
        plan = self.plan
        # A context that was clamped to the trained length would be clamped again.
        clamped = loaded.runner.context_length < loaded.plan.context_length
        if plan.context_length > loaded.plan.context_length and not clamped:
            return False
        others = self.explicit - {"context_length"}
        same_files = (plan.adapter_paths, plan.projector_paths, plan.draft_path) == (
            loaded.plan.adapter_paths,
            loaded.plan.projector_paths,
            loaded.plan.draft_path,
        )
        return same_files and all(getattr(plan, name) == getattr(loaded.plan, name) for name in others)
