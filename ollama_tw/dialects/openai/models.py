"""Replies of ``/v1/models``.

Source: ollama: openai/openai.go, ToListCompletion, ToModel.
"""

from collections.abc import Sequence
from typing import Any


def model_object(name: str, created: int, owner: str) -> dict[str, Any]:
    """Return the object of one model; ``created`` is in Unix seconds."""
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def model_list(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the list of all models; an empty one is null, as in Ollama."""
    return {"object": "list", "data": list(models) or None}
