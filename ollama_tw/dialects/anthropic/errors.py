"""Error objects. Source: ``spec/inference-api.md`` section 7.1."""

from typing import Any

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
    """The body of a reply with ``status``, and the last event of a stream that fails."""
    return {
        "type": "error",
        "error": {"type": _TYPES.get(status, "api_error"), "message": message},
        "request_id": request_id,
    }
