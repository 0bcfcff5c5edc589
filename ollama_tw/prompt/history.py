"""Truncation of a conversation, or of the tokens of one prompt, to the context length.

Source: ollama: server/prompt.go, chatPrompt; llm/llama_server.go, completionPromptForRequest.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from ollama_tw.errors import OllamaError
from ollama_tw.templates.budget import TemplateError
from ollama_tw.wire.native import Message

IMAGE_TOKENS = 768
"""Tokens that an image counts for if the model has a projector."""


@dataclass(frozen=True)
class History:
    """Part of a conversation that fits the context length."""

    messages: tuple[Message, ...]
    prompt: str
    """``messages`` as rendered for counting, without image tags."""
    dropped_messages: int = 0
    dropped_tokens: int = 0
    """Number of tokens by which the whole conversation was longer."""


def cut_history(
    messages: Sequence[Message],
    limit: int,
    render: Callable[[Sequence[Message]], str],
    count: Callable[[str], int],
    *,
    image_tokens: int = 0,
) -> History:
    """Return the longest end of ``messages`` that fits into ``limit`` tokens, with all system messages.

    Messages are dropped one by one from the front; the system messages among them are put before the
    rest. The last message is kept, however long. ``messages`` must not be empty.

    :param render: returns the prompt for messages. If it raises :class:`TemplateError` for a shortened
        conversation (some templates require alternating roles), the next shorter one is tried; for the
        whole conversation, or if no shorter one fits, the error propagates.
    :param count: returns the number of tokens of a text without special tokens; at most one more than
        its bytes.
    :param image_tokens: tokens that each image counts for, :data:`IMAGE_TOKENS` with a projector.

    ``count`` is called about 2 log n times, and not at all for a text shorter than ``limit`` bytes.
    """
    candidates = _Candidates(messages, limit, render, count, image_tokens)
    if candidates.fits(0):
        return History(tuple(messages), candidates.prompt(0))
    start = candidates.first_fitting()
    kept = candidates.messages(start)
    return History(
        tuple(kept),
        candidates.prompt(start),
        len(messages) - len(kept),
        max(candidates.cost(0) - candidates.cost(start), 0),
    )


class _Candidates:
    """Conversations from message i on, i = 0, 1, 2..., each rendered and counted at most once."""

    def __init__(
        self,
        messages: Sequence[Message],
        limit: int,
        render: Callable[[Sequence[Message]], str],
        count: Callable[[str], int],
        image_tokens: int,
    ) -> None:
        self._all = messages
        self._last = len(messages) - 1
        self._limit = limit
        self._render = render
        self._count = count
        self._image_tokens = image_tokens
        self.prompt = functools.cache(self._prompt)
        self._costs: dict[int, int] = {}

    def messages(self, start: int) -> list[Message]:
        return [message for message in self._all[:start] if message.role == "system"] + list(
            self._all[start:]
        )

    def _prompt(self, start: int) -> str:
        return self._render(self.messages(start))

    def cost(self, start: int) -> int:
        """Return the tokens of the candidate."""
        if start not in self._costs:
            self._costs[start] = self._count(self.prompt(start)) + self._cost_of_images(start)
        return self._costs[start]

    def fits(self, start: int) -> bool:
        bytes_and_images = len(self.prompt(start).encode(errors="replace")) + self._cost_of_images(start)
        return bytes_and_images < self._limit or self.cost(start) <= self._limit

    def first_fitting(self) -> int:
        """Return the first candidate after the whole conversation that fits, else the last one.

        A binary search is correct if a shorter conversation never has more tokens; if the counts
        contradict that, the candidates are tried in order.
        """
        low, high = 0, 1  # candidate low does not fit
        while high < self._last and not self._fits_from(high):
            low, high = high, high * 2
        high = min(high, self._last)
        while high - low > 1:
            middle = (low + high) // 2
            if self._fits_from(middle):
                high = middle
            else:
                low = middle
        if not self._falling():
            high = next((i for i in range(1, self._last) if self._fits_from(i)), self._last)
        return self._renderable(high)

    def _fits_from(self, start: int) -> bool:
        """Return True if the first renderable candidate from ``start`` on fits; the last one always does."""
        start = self._renderable(start)
        return start == self._last or self.fits(start)

    def _renderable(self, start: int) -> int:
        while start < self._last and not self._renders(start):
            start += 1
        return start

    def _renders(self, start: int) -> bool:
        try:
            self.prompt(start)
        except TemplateError:
            return False
        return True

    def _falling(self) -> bool:
        costs = [cost for _, cost in sorted(self._costs.items())]
        return all(left >= right for left, right in itertools.pairwise(costs))

    def _cost_of_images(self, start: int) -> int:
        if not self._image_tokens:
            return 0
        kept = (message.images for message in self._all[start:])
        return self._image_tokens * sum(len(images) for images in kept if images is not UNSET)


def kept_tokens(keep: int, context: int, *, adds_bos: bool) -> int:
    """Return the number of tokens kept at the front: ``num_keep`` and a BOS; negative means all."""
    if keep < 0:
        return context - 1
    return min(keep + adds_bos, context - 1)


def middle_cut(tokens: Sequence[int], keep: int, context: int) -> list[int]:
    """Return a prompt shorter than ``context``: the first ``keep`` tokens and the end, without the middle.

    ``keep`` is a result of :func:`kept_tokens`. A prompt of at most ``context - 1`` tokens is returned
    unchanged; a longer one is cut to ``context - max((context - keep) // 2, 1)`` tokens.
    """
    if len(tokens) <= context - 1:
        return list(tokens)
    tail = context - max((context - keep) // 2, 1) - keep
    return [*tokens[:keep], *tokens[len(tokens) - tail :]]


def too_long(length: int, context: int) -> OllamaError:
    """Return the error 400 for a prompt of ``length`` tokens that must not be cut to ``context`` tokens."""
    return OllamaError(
        400,
        f"the prompt has {length} tokens, which exceeds the available context size of {context} tokens; "
        "shorten the prompt, or raise num_ctx or, on the server, OLLAMA_CONTEXT_LENGTH",
    )
