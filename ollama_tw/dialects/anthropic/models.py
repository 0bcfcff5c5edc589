"""Replies of ``/v1/models`` to clients of the Anthropic API.

Source: https://docs.anthropic.com/en/api/models-list. Ollama answers all clients in OpenAI's form.
"""

from collections.abc import Sequence
from typing import Any

from ollama_tw.wire.timestamps import utc


def model_object(name: str, modified_ns: int) -> dict[str, Any]:
    """Return the object of one model; ``modified_ns`` is a Unix time in nanoseconds."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": utc(modified_ns),
        "lifecycle": "active",
    }


def model_list(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the list of all models, in one page."""
    return {
        "data": list(models),
        "has_more": False,
        "first_id": models[0]["id"] if models else None,
        "last_id": models[-1]["id"] if models else None,
    }
