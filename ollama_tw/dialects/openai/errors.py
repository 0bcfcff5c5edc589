"""Error objects. Source: ``spec/inference-api.md`` section 6.0."""

from typing import Any

_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_NO_TEXT = "something went wrong, please see the ollama server logs for details"


def error_object(status: int, message: str) -> dict[str, Any]:
    """The body of a reply with ``status``."""
    return {
        "error": {
            "message": message or _NO_TEXT,
            "type": _TYPES.get(status, "api_error"),
            "param": None,
            "code": None,
        }
    }
