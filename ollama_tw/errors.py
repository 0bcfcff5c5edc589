"""Exceptions that end a request, and the reasons of others in error texts."""

import sys
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
    """Return why ``error`` was raised, as error texts and log lines say it after a colon.

    That is the system's text of a failed call, its first letter in lower case, or the error's own text.
    Failures of TLS, host names and time limits have texts of their own, since those of libraries are unclear.
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, TimeoutError):
        return "timed out"
    if _is_of_type(error, "urllib.error", "URLError"):
        return reason_of(error.reason)  # type: ignore[union-attr]
    if _is_of_type(error, "socket", "gaierror"):
        return "no such host"
    if _is_of_type(error, "ssl", "SSLCertVerificationError"):
        return f"the certificate is not trusted: {error.verify_message}"  # type: ignore[union-attr]
    if _is_of_type(error, "ssl", "SSLError"):
        reason: str = error.reason or "unknown reason"  # type: ignore[union-attr]
        return f"TLS failed: {reason.lower().replace('_', ' ')}"
    system = str(getattr(error, "strerror", None) or "")
    return system[:1].lower() + system[1:] or str(error)


def _is_of_type(error: BaseException | str, module: str, name: str) -> bool:
    """Return whether ``error`` is of a type in ``module``, which it cannot be before that is imported."""
    imported = sys.modules.get(module)
    return imported is not None and isinstance(error, getattr(imported, name))
