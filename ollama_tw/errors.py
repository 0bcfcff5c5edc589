"""Exceptions that end a request, and the reasons of others in error texts."""

from collections.abc import Mapping


class OllamaError(Exception):
    """A failure with a message for the client and an HTTP status.

    Raised by any package, on any thread. The endpoints send it as ``{"error": message}`` with ``status``,
    or as the last record of a stream that has begun. Any other exception is a defect: it is logged and
    answered with status 500 without its text. ``details`` are further members of the native API's object
    beside ``error``.
    """

    def __init__(self, status: int, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details or {}


class Cancelled(Exception):
    """The client has disconnected or has cancelled the request: there is no reply."""


def reason_of(error: BaseException | str) -> str:
    """Return why ``error`` was raised: the system's text of a failed call, in lower case, or its own text."""
    system = getattr(error, "strerror", None)
    return str(system).lower() if system else str(error)
