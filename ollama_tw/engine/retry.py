"""Second attempt of a request whose runner process died."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.logger import Logger

from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import RunnerDied

T = TypeVar("T")

_log = Logger()


def _always() -> bool:
    return True


async def run_again_after_death(
    attempt: Callable[[], Awaitable[T]], may_repeat: Callable[[], bool] = _always
) -> T:
    """Return the result of ``attempt()``; if its runner dies, that of a second one.

    ``may_repeat`` returns False once the client has a part of the result. Raises :class:`OllamaError` 500 if
    the runner dies again, or there is no second attempt.
    """
    try:
        return await attempt()
    except RunnerDied as error:
        if not may_repeat():
            raise OllamaError(500, str(error)) from error
    _log.info("retrying a request: its runner process died before the client got any output")
    try:
        return await attempt()
    except RunnerDied as error:
        raise OllamaError(500, str(error)) from error
