"""Limits on one rendering of an untrusted chat template: time, output, and the size of values."""

import time
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from ollama_tw.errors import OllamaError

MAX_OUTPUT: Final = 8 << 20
"""Characters of the finished prompt."""
MAX_VALUE: Final = 16 << 20
"""Size of one value: its characters, and 16 for each element; a shared element counts each time."""


@dataclass(frozen=True)
class Limits:
    """Limits of one rendering, besides :data:`MAX_OUTPUT` and :data:`MAX_VALUE`."""

    seconds: float = 5.0
    """Of the budget's clock, processor time by default."""
    total: int = 512 << 20
    """Total size of all values built."""
    steps: int | None = None
    """Iterations, calls and pieces of output; None for any number."""


_STEPS_PER_LOOK = 64
_SIZE_PER_LOOK = 64 << 10
_SIZE_OF_ELEMENT = 16
_CONTAINERS = (list, tuple, KeysView, ValuesView, ItemsView)


class TemplateError(OllamaError):
    """Error of a chat template that cannot be compiled or rendered; the message is one sentence."""

    def __init__(self, message: str) -> None:
        super().__init__(500, message)


class TemplateRefusal(TemplateError):
    """Error of a template that refuses the messages of a request, or fails with them: status 400."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.status = 400


class LimitExceeded(TemplateError):
    """Error of a template that exceeds a limit."""


class Budget:
    """Cost counter of one rendering; every method raises :class:`LimitExceeded` above a limit."""

    def __init__(self, clock: Callable[[], float] = time.thread_time, limits: Limits = Limits()) -> None:
        self._clock = clock
        self._limits = limits
        self._deadline = clock() + limits.seconds
        self.steps = 0
        self.total = 0

    def step(self, size: int = 0) -> None:
        """Charge one iteration, call or piece of output that produced ``size`` characters."""
        self.steps += 1
        self.total += max(size, 0)
        if self.total > self._limits.total:
            raise LimitExceeded("the chat template needs too much memory")
        if self._limits.steps is not None and self.steps > self._limits.steps:
            raise LimitExceeded("the chat template takes too many steps")
        look = self.steps % _STEPS_PER_LOOK == 0 or size > _SIZE_PER_LOOK
        if look and self._clock() >= self._deadline:
            raise LimitExceeded("the chat template takes too long to render")

    def reserve(self, size: int) -> None:
        """Charge a value of ``size`` before it is built."""
        if size > MAX_VALUE:
            raise LimitExceeded("the chat template builds a value that is too large")
        self.step(size)

    def hold(self, value: Any) -> Any:
        """Charge ``value`` and return it; the size of its printed form is bounded."""
        if isinstance(value, str):
            self.reserve(len(value))
        elif isinstance(value, (dict, *_CONTAINERS)):
            self.reserve(weigh(value))
        else:
            self.step()
        return value


def weigh(value: Any) -> int:
    """Return the size of ``value`` as defined by :data:`MAX_VALUE`; counting stops above it.

    Containers that share their elements (``[x, x]`` of ``[y, y]`` of ...) count as large as they
    print, so that no value with an exponentially large printed form can be built.
    """
    size = 0
    waiting = [value]
    while waiting and size <= MAX_VALUE:
        item = waiting.pop()
        size += _SIZE_OF_ELEMENT
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, _CONTAINERS):
            waiting.extend(item)
    return size


_current: ContextVar[Budget] = ContextVar("budget")


def current() -> Budget:
    """Return the budget of this thread's rendering. Templates cannot reach or shadow it."""
    return _current.get()


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Charge renderings within the block to ``budget``."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)
