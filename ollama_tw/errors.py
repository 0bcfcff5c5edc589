"""The one exception that carries an answer for the user."""

from collections.abc import Mapping


class OllamaError(Exception):
    """A failure with a text for the user and the HTTP status that goes with it.

    Raised in any room, on any thread; the doors turn it into ``{"error": message}`` with
    ``status``, or into the last record of a stream that has already begun. Everything else that
    is raised is a mistake of ours: the doors log it and answer 500 without its text. ``details`` are
    further members that the native API's object has beside ``error``.
    """

    def __init__(self, status: int, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details or {}


class Cancelled(Exception):
    """The request's owner has gone or withdrew it; nobody waits for an answer."""
