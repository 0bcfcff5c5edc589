"""What one rendering of an untrusted template may cost: time, output, and the size of what it builds."""

import time
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from ollama_tw.errors import OllamaError

MAX_OUTPUT: Final = 8 << 20
"""Characters of the finished prompt."""
MAX_VALUE: Final = 16 << 20
"""Size of one value: its characters and 16 for each element, shared ones counted each time."""
MAX_TOTAL: Final = 512 << 20
"""Size of all values built in one rendering, together."""
MAX_SECONDS: Final = 5.0

_STEPS_PER_LOOK = 64
_SIZE_PER_LOOK = 64 << 10
_SIZE_OF_ELEMENT = 16
_CONTAINERS = (list, tuple, KeysView, ValuesView, ItemsView)


class TemplateError(OllamaError):
    """A chat template that cannot be compiled or rendered; the message is one sentence for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(500, message)


class LimitExceeded(TemplateError):
    """A template that would cost too much to render."""


class Budget:
    """Counts what one rendering spends; every method raises :class:`LimitExceeded` when it is too much."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadline = clock() + MAX_SECONDS
        self._steps = 0
        self._total = 0

    def step(self, size: int = 0) -> None:
        """One turn of a loop, one call or one piece of output, that made ``size`` characters."""
        self._steps += 1
        self._total += max(size, 0)
        if self._total > MAX_TOTAL:
            raise LimitExceeded("the chat template needs too much memory")
        look = self._steps % _STEPS_PER_LOOK == 0 or size > _SIZE_PER_LOOK
        if look and self._clock() > self._deadline:
            raise LimitExceeded("the chat template takes too long to render")

    def reserve(self, size: int) -> None:
        """Refuse a value of ``size`` before it is made."""
        if size > MAX_VALUE:
            raise LimitExceeded("the chat template builds a value that is too large")
        self.step(size)

    def hold(self, value: Any) -> Any:
        """``value``, whose printed form is now known to be bounded."""
        if isinstance(value, str):
            self.reserve(len(value))
        elif isinstance(value, (dict, *_CONTAINERS)):
            self.reserve(weigh(value))
        else:
            self.step()
        return value


def weigh(value: Any) -> int:
    """The size of ``value`` as in :data:`MAX_VALUE`; counting stops once it is larger than that.

    Containers that share their elements (``[x, x]`` of ``[y, y]`` of ...) count as large as they
    print, so that none can be built whose printed form explodes.
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
    """The budget of the rendering that this thread is in. Templates have no way to reach or shadow it."""
    return _current.get()


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Renderings in this block spend from ``budget``."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)
