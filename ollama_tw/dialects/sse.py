"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from typing import Any

from ollama_tw.golang import json as gojson

DONE = b"[DONE]"
"""The data of the event that ends an OpenAI stream."""

KEEP_ALIVE_COMMENT = b": keep-alive\n\n"
"""A comment, which clients ignore."""


def data_event(record: Any) -> bytes:
    """Return an unnamed event with ``record`` as JSON; bytes are sent unchanged."""
    data: bytes = record if isinstance(record, bytes) else gojson.encode(record)
    return b"data: " + data + b"\n\n"


def named_event(record: dict[str, Any]) -> bytes:
    """Return an event named after the ``type`` of ``record``."""
    name: str = record["type"]
    return b"event: " + name.encode() + b"\n" + data_event(record)
