"""Replies of ``/v1/models`` to clients of the Anthropic API.

Source: https://docs.anthropic.com/en/api/models-list. Ollama answers all clients in OpenAI's form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.wire.timestamps import utc

_MAX_LIMIT = 1000


@dataclass(frozen=True)
class Page:
    """The part of the list that a client requests: all of it without a limit, unlike at Anthropic."""

    limit: int | None = None
    after: str = ""
    """The id of the model before the first one of the page."""
    before: str = ""
    """The id of the model after the last one of the page."""


def page_of(query: Mapping[str, str]) -> Page:
    """Return the page that the parameters of a query describe. Raises :class:`OllamaError` 400."""
    limit = query.get("limit", "")
    if limit and not (limit.isdecimal() and len(limit) < 5 and 1 <= int(limit) <= _MAX_LIMIT):
        raise OllamaError(400, f'"limit" must be between 1 and {_MAX_LIMIT}')
    after, before = query.get("after_id", ""), query.get("before_id", "")
    if after and before:
        raise OllamaError(400, 'give either "after_id" or "before_id", not both')
    return Page(int(limit) if limit else None, after, before)


def model_object(name: str, modified_ns: int) -> dict[str, Any]:
    """Return the object of one model; ``modified_ns`` is a Unix time in nanoseconds."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": utc(modified_ns),
        "lifecycle": "active",
    }


def model_list(models: Sequence[dict[str, Any]], page: Page) -> dict[str, Any]:
    """Return ``page`` of the list of ``models``. Raises :class:`OllamaError` 400 for an unknown id."""
    left = list(models)
    if page.after:
        left = left[_position(models, page.after, "after_id") + 1 :]
    if page.before:
        left = left[: _position(models, page.before, "before_id")]
    count = len(left) if page.limit is None else page.limit
    shown = left[max(0, len(left) - count) :] if page.before else left[:count]
    return {
        "data": shown,
        "has_more": len(left) > len(shown),
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def _position(models: Sequence[dict[str, Any]], name: str, parameter: str) -> int:
    for position, model in enumerate(models):
        if model["id"] == name:
            return position
    raise OllamaError(400, f'"{parameter}" is not the id of a model in the list')
