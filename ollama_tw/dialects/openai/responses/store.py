"""Responses that are kept in memory for a while, for ``previous_response_id`` and the GET routes.

Source: https://platform.openai.com/docs/api-reference/responses. Ollama keeps none.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson

MAX_BYTES = 64 << 20
"""Maximum size of all conversations that are kept, as JSON; each response counts its whole conversation."""
MAX_RESPONSES = 1000
KEPT_SECONDS = 3600.0
"""Time for which a response is kept after its last use."""

Item = Mapping[str, Any]


@dataclass
class _Kept:
    response: dict[str, Any]
    input: tuple[Item, ...]
    """The items of the request."""
    conversation: tuple[Item, ...]
    """The items of all requests and responses, up to this response."""
    size: int
    used: float
    owner: str


class ResponseStore:
    """Finished responses by id, the least recently used first. Used on any thread.

    ``now`` returns seconds of a monotonic clock. What one ``owner``, a client with an API key, has asked is
    not found by others; "" is the owner of all clients without one.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0

    def put(
        self,
        response: dict[str, Any],
        given: Sequence[Item],
        earlier: Sequence[Item] = (),
        owner: str = "",
    ) -> None:
        """Keep a finished response, unless it is too large.

        ``given`` are the items of its request, ``earlier`` those of the conversation before.
        """
        size = len(gojson.encode([response, *given, *earlier]))
        if size > MAX_BYTES:
            return
        given = tuple(given)
        conversation = (*earlier, *given, *response["output"])
        with self._lock:
            self._expire()
            self._kept[response["id"]] = _Kept(response, given, conversation, size, self._now(), owner)
            self._size += size
            while self._size > MAX_BYTES or len(self._kept) > MAX_RESPONSES:
                self._remove(next(iter(self._kept)))

    def response(self, response_id: str, owner: str = "") -> dict[str, Any]:
        """Return a response. Raises :class:`OllamaError` 404."""
        return self._find(response_id, owner).response

    def input_of(self, response_id: str, owner: str = "") -> tuple[Item, ...]:
        """Return the items of the request of a response. Raises :class:`OllamaError` 404."""
        return self._find(response_id, owner).input

    def conversation(self, response_id: str, owner: str = "") -> tuple[Item, ...]:
        """Return the items of the conversation up to a response. Raises :class:`OllamaError` 404."""
        return self._find(response_id, owner).conversation

    def item(self, item_id: str, owner: str = "") -> Item:
        """Return an item of any response or request. Raises :class:`OllamaError` 404."""
        with self._lock:
            self._expire()
            for kept in reversed(self._kept.values()):
                for item in reversed(kept.conversation):
                    if kept.owner == owner and item.get("id") == item_id:
                        return item
        raise OllamaError(404, f"Item with id '{item_id}' not found.")

    def delete(self, response_id: str, owner: str = "") -> None:
        """Remove a response. Raises :class:`OllamaError` 404."""
        self._find(response_id, owner)
        with self._lock:
            if response_id in self._kept:
                self._remove(response_id)

    def _find(self, response_id: str, owner: str) -> _Kept:
        with self._lock:
            self._expire()
            kept = self._kept.get(response_id)
            if kept is None or kept.owner != owner:
                raise OllamaError(404, f"Response with id '{response_id}' not found.")
            kept.used = self._now()
            self._kept.move_to_end(response_id)
            return kept

    def _expire(self) -> None:
        oldest = self._now() - KEPT_SECONDS
        while self._kept and next(iter(self._kept.values())).used < oldest:
            self._remove(next(iter(self._kept)))

    def _remove(self, response_id: str) -> None:
        self._size -= self._kept.pop(response_id).size
