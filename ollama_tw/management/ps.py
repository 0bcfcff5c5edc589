"""Records of the loaded models, which ``/api/ps`` lists."""

from dataclasses import asdict
from typing import Any

from msgspec import UNSET

from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.engine.parked_states import bytes_of
from ollama_tw.interfaces import IReplicated
from ollama_tw.wire.models import LoadedModelRecord
from ollama_tw.wire.timestamps import rfc3339

_SECOND = 10**9


def loaded_record(loaded: LoadedModel) -> LoadedModelRecord:
    """Return the entry of ``loaded`` in ``/api/ps``."""
    runner: Any = loaded.runner
    return LoadedModelRecord(
        name=loaded.name,
        model=loaded.name,
        size=loaded.runner.size,
        digest=loaded.digest,
        details={**loaded.details, "parent_model": ""},
        expires_at=rfc3339(int(loaded.expires_at * _SECOND)),
        size_vram=loaded.runner.size_gpu,
        context_length=loaded.runner.context_length,
        size_prompt_cache=bytes_of([loaded.runner]),
        slots=loaded.slots,
        running=loaded.running,
        replicas=[asdict(one) for one in runner.replicas] if IReplicated.providedBy(runner) else UNSET,
    )
