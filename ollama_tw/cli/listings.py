"""Tables of ``ollama list`` and ``ollama ps``.

Source: ollama: cmd/cmd.go, ListHandler, ListRunningHandler.
"""

import math
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ollama_tw.cli.chats import Chat
from ollama_tw.cli.tables import table
from ollama_tw.golang.humanize import human_bytes, human_time

_ID_DIGITS = 12
_TITLE_WIDTH = 60
ZERO_TIME = "0001-01-01T00:00:00Z"


def model_table(models: Iterable[Mapping[str, Any]], now: float | None = None) -> str:
    """Return the table of models as ``/api/tags`` describes them; ``now`` is in seconds since the epoch."""
    rows = [
        (
            model.get("name", ""),
            model.get("digest", "")[:_ID_DIGITS],
            "-" if model.get("remote_model") else human_bytes(model.get("size", 0)),
            _relative(model.get("modified_at", ZERO_TIME), now),
        )
        for model in models
    ]
    return table(rows, header=("NAME", "ID", "SIZE", "MODIFIED"))


def running_table(models: Iterable[Mapping[str, Any]], now: float | None = None) -> str:
    """Return the table of models as ``/api/ps`` describes them; ``now`` is in seconds since the epoch."""
    rows = [
        (
            model.get("name", ""),
            model.get("digest", "")[:_ID_DIGITS],
            human_bytes(model.get("size", 0)),
            processor(model.get("size", 0), model.get("size_vram", 0)),
            str(model.get("context_length", 0)),
            until(model.get("expires_at", ZERO_TIME), now),
        )
        for model in models
    ]
    return table(rows, header=("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"))


def chat_table(chats: Iterable[Chat], now: float | None = None) -> str:
    """Return the table of kept conversations."""
    rows = [
        (chat.id, chat.model, str(len(chat.messages)), _relative(chat.modified.isoformat(), now), chat.title)
        for chat in chats
    ]
    return table(rows, header=("ID", "MODEL", "MESSAGES", "MODIFIED", "TITLE"), cell_width=_TITLE_WIDTH)


def processor(size: int, size_vram: int) -> str:
    """Return the shares of a model in main memory and on GPUs."""
    if size_vram == 0:
        return "100% CPU"
    if size_vram == size:
        return "100% GPU"
    if size_vram > size or size == 0:
        return "Unknown"
    percent = math.floor((size - size_vram) / size * 100 + 0.5)
    return f"{percent}%/{100 - percent}% CPU/GPU"


def until(text: str, now: float | None = None) -> str:
    """Return when a model expires, a time of RFC 3339; ``now`` is in seconds since the epoch."""
    elapsed = _elapsed(text, now)
    return "Stopping..." if elapsed is not None and elapsed > 0 else _relative(text, now)


def _relative(text: str, now: float | None) -> str:
    elapsed = _elapsed(text, now)
    return "Never" if elapsed is None else human_time(elapsed)


def _elapsed(text: str, now: float | None) -> int | None:
    """Return the nanoseconds since a time of RFC 3339, None for Go's zero time."""
    if text.startswith(ZERO_TIME[:5]):
        return None
    seconds = (time.time() if now is None else now) - datetime.fromisoformat(text).timestamp()
    return int(seconds * 1e9)
