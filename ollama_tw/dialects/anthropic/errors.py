"""Error objects and error events of the Anthropic API.

Source: ollama: anthropic/anthropic.go, NewError.
"""

import secrets
from typing import Any

from ollama_tw.dialects.errors import ErrorFormat
from ollama_tw.dialects.sse import named_event

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def error_object(status: int, message: str, request_id: str) -> dict[str, Any]:
    """Return the body of a reply with ``status``, which is the last event of a failed stream as well."""
    return {
        "type": "error",
        "error": {"type": _TYPES.get(status, "api_error"), "message": message},
        "request_id": request_id,
    }


def _identified(status: int, message: str) -> dict[str, Any]:
    return error_object(status, message, f"req_{secrets.token_hex(12)}")


def error_event(status: int, message: str) -> bytes:
    """Return the last event of a stream that fails. Ollama ends the stream without one."""
    return named_event(_identified(status, message))


ERRORS = ErrorFormat(_identified, error_event)
