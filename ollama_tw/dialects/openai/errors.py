"""Error objects and error events of the OpenAI API.

Source: ollama: openai/openai.go, NewError.
"""

from typing import Any

from ollama_tw.dialects.errors import ErrorFormat
from ollama_tw.dialects.sse import data_event

_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_REFUSALS = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", "insufficient_permissions"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
_NO_TEXT = "something went wrong, please see the ollama server logs for details"


def error_object(status: int, message: str) -> dict[str, Any]:
    """Return the body of a reply with ``status``."""
    return {
        "error": {
            "message": message or _NO_TEXT,
            "type": _TYPES.get(status, "api_error"),
            "param": None,
            "code": None,
        }
    }


def error_event(status: int, message: str) -> bytes:
    """Return the last event of a stream that fails. Ollama sends an empty chunk instead."""
    return data_event(error_object(status, message))


def refusal_object(status: int, message: str) -> dict[str, Any]:
    """Return the body of a reply to a request that its API key does not admit, in the API's own terms."""
    body = error_object(status, message)
    body["error"]["type"], body["error"]["code"] = _REFUSALS.get(status, ("api_error", None))
    return body


ERRORS = ErrorFormat(error_object, error_event)
