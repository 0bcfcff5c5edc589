"""``/v1/models``. Source: ``spec/inference-api.md`` section 6.6."""

from collections.abc import Sequence
from typing import Any


def model_object(name: str, created: int, owner: str) -> dict[str, Any]:
    """One model; ``created`` in Unix seconds."""
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def model_list(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All models; Go writes no list of none but null."""
    return {"object": "list", "data": list(models) or None}
