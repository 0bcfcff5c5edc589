"""Exceptions of a runner, as they cross from the child to the server."""

import logging

from ollama_tw.interfaces import (
    InvalidGrammar,
    InvalidImages,
    LoadCancelled,
    LoadError,
    PromptTooLong,
    RunnerError,
)
from ollama_tw.runner.messages import Failure

_log = logging.getLogger("ollama_tw.runner")

_CLASSES: dict[str, type[Exception]] = {
    one.__name__: one for one in (InvalidGrammar, InvalidImages, LoadCancelled, LoadError, RunnerError)
}


def to_failure(error: BaseException) -> Failure:
    """Return the message for an exception; one that the contract does not have is logged."""
    if isinstance(error, PromptTooLong):
        return Failure("PromptTooLong", str(error), (error.prompt_tokens, error.context_length, error.index))
    for one in type(error).__mro__:
        if one.__name__ in _CLASSES:
            return Failure(one.__name__, str(error))
    _log.error("the engine failed", exc_info=error)
    return Failure("", "the engine failed; see the server's log")


def to_exception(failure: Failure, unknown: type[Exception] = RunnerError) -> Exception:
    """Return the exception for a message; ``unknown`` is its class if the contract does not have it."""
    if failure.kind == "PromptTooLong" and len(failure.arguments) == 3:
        return PromptTooLong(*failure.arguments)
    return _CLASSES.get(failure.kind, unknown)(failure.text)
