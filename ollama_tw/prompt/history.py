"""Cutting a conversation, or the tokens of one prompt, to the context window.

Source: ``spec/inference-api.md`` sections 1.8 and 9; ``spec/better.md`` row 9.
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
"""What an image counts for, when the model has a projector."""


@dataclass(frozen=True)
class History:
    """The part of a conversation that fits."""

    messages: tuple[Message, ...]
    prompt: str
    """``messages`` as they were rendered to be measured: without image tags."""
    dropped_messages: int = 0
    dropped_tokens: int = 0
    """By how many tokens the whole conversation was longer."""


def cut_history(
    messages: Sequence[Message],
    limit: int,
    render: Callable[[Sequence[Message]], str],
    count: Callable[[str], int],
    *,
    image_tokens: int = 0,
) -> History:
    """The longest end of ``messages`` that fits into ``limit`` tokens, with all system messages.

    Messages are dropped one by one from the front; the system messages among them go before the
    rest. The last message stays, however long. ``messages`` must not be empty.

    :param render: the prompt for some messages. Where it raises :class:`TemplateError` for a
        shortened conversation (some templates insist on whose turn it is), the next shorter one is
        taken; for the whole conversation, or when no shorter one fits, the error is raised.
    :param count: tokens of a text without special tokens; at most one for each byte and one more.
    :param image_tokens: what each image counts for, :data:`IMAGE_TOKENS` with a projector.

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
    """The conversations that begin at message i, i = 0, 1, 2..., each rendered and counted at most once."""

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
        """Tokens of the candidate."""
        if start not in self._costs:
            self._costs[start] = self._count(self.prompt(start)) + self._cost_of_images(start)
        return self._costs[start]

    def fits(self, start: int) -> bool:
        bytes_and_images = len(self.prompt(start).encode(errors="replace")) + self._cost_of_images(start)
        return bytes_and_images < self._limit or self.cost(start) <= self._limit

    def first_fitting(self) -> int:
        """The first candidate after the whole that fits, else the last one.

        A search by halves is right where a shorter conversation never counts more; when the counts
        taken on the way contradict that, the candidates are tried in turn.
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
        """Whether the first candidate from ``start`` on that can be rendered fits; the last always does."""
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
    """How many tokens at the front survive a cut: ``num_keep``, and one for a BOS; negative means all."""
    if keep < 0:
        return context - 1
    return min(keep + adds_bos, context - 1)


def middle_cut(tokens: Sequence[int], keep: int, context: int) -> list[int]:
    """A prompt that leaves room in ``context``: the first ``keep`` tokens and the end, without the middle.

    ``keep`` is a result of :func:`kept_tokens`. A prompt of at most ``context - 1`` tokens comes
    back as it is; a longer one is cut to ``context - max((context - keep) // 2, 1)`` tokens.
    """
    if len(tokens) <= context - 1:
        return list(tokens)
    tail = context - max((context - keep) // 2, 1) - keep
    return [*tokens[:keep], *tokens[len(tokens) - tail :]]


def too_long(length: int, context: int) -> OllamaError:
    """The answer to a prompt of ``length`` tokens that may not be cut to fit ``context`` tokens."""
    return OllamaError(
        400,
        f"the prompt has {length} tokens, which exceeds the available context size of {context} tokens; "
        "shorten the prompt or raise num_ctx",
    )
