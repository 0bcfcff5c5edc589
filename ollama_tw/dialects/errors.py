"""The error formats of the APIs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ollama_tw.dialects.sse import data_event
from ollama_tw.wire.native import error_object


@dataclass(frozen=True)
class ErrorFormat:
    """The two forms in which an API reports an error, each made of an HTTP status and a message."""

    body: Callable[[int, str], dict[str, Any]]
    """Returns the JSON object of an error reply."""
    event: Callable[[int, str], bytes]
    """Returns the server-sent event that ends a failed stream."""


def _native_object(_: int, message: str) -> dict[str, Any]:
    return error_object(message)


def _native_event(_: int, message: str) -> bytes:
    return data_event(error_object(message))


NATIVE_ERRORS = ErrorFormat(_native_object, _native_event)
"""The errors of the native API."""
