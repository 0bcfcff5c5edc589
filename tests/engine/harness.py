"""A scheduler whose time and threads stand still until the test moves them."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ollama_tw.engine.scheduler import Wanted
from ollama_tw.interfaces import LoadPlan

T = TypeVar("T")

SECOND = 10**9


class FakeReactor(Clock):
    """Time that the test advances; there is one thread only."""

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)


class StillPool:
    """A pool whose work is done when the test says so; ``all`` lists the pools of a test."""

    all: "list[StillPool]" = []  # noqa: RUF012

    def __init__(self, reactor: Any, size: int, name: str) -> None:
        self.size = size
        self.name = name
        self.work: list[Callable[[], None]] = []
        self.stopped = False
        StillPool.all.append(self)

    def run(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
        assert not self.stopped, f"work for the stopped pool {self.name}"
        finished: Deferred[T] = Deferred()

        def do() -> None:
            try:
                result = work(*args, **kwargs)
            except Exception:
                finished.errback()
            else:
                finished.callback(result)

        self.work.append(do)
        return finished

    def step(self) -> None:
        """Do the oldest work."""
        self.work.pop(0)()

    def stop(self) -> None:
        assert not self.work
        self.stopped = True


def begin(coroutine: Awaitable[T]) -> Deferred[T]:
    return Deferred.fromCoroutine(coroutine)  # type: ignore[arg-type]


def want(
    path: str, *, keep_alive: int | None = None, slots: int = 1, explicit: str = "", **plan: Any
) -> Wanted:
    """What a request for ``path`` needs; ``explicit`` names fields of the plan, with spaces between."""
    fields = {"context_length": 2048} | plan
    return Wanted(path, LoadPlan(path, slots=slots, **fields), frozenset(explicit.split()), keep_alive)
