"""Pages of a list of items.

Source: https://platform.openai.com/docs/api-reference/responses/input-items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_tw.errors import OllamaError

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 100


@dataclass(frozen=True)
class Page:
    """The part of a list that a client requests."""

    limit: int = _DEFAULT_LIMIT
    after: str = ""
    """The id of the item before the first one of the page."""
    ascending: bool = False


def page_of(query: Mapping[str, str]) -> Page:
    """Return the page that the parameters of a query describe. Raises :class:`OllamaError` 400."""
    limit = query.get("limit", str(_DEFAULT_LIMIT))
    if not limit.isdecimal() or len(limit) > 3 or not 1 <= int(limit) <= _MAX_LIMIT:
        raise OllamaError(400, f'"limit" must be between 1 and {_MAX_LIMIT}')
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise OllamaError(400, '"order" must be "asc" or "desc"')
    return Page(int(limit), query.get("after", ""), order == "asc")


def item_list(items: Sequence[Mapping[str, Any]], page: Page) -> dict[str, Any]:
    """Return the list object of a page of ``items``."""
    ordered = [_listed(item) for item in (items if page.ascending else reversed(items))]
    if page.after:
        ids = [item["id"] for item in ordered]
        ordered = ordered[ids.index(page.after) + 1 :] if page.after in ids else []
    shown = ordered[: page.limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(ordered) > len(shown),
    }


def _listed(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item as OpenAI lists it: content as parts."""
    content = item.get("content")
    if item.get("type") != "message" or not isinstance(content, str):
        return dict(item)
    kind = "output_text" if item.get("role") == "assistant" else "input_text"
    return {**item, "content": [{"type": kind, "text": content}]}
