"""Conversations of interactive sessions, kept in ``~/.ollama/chats``: one JSON file each.

A chat is written after each answer. The oldest ones are removed.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ollama_tw.errors import OllamaError, reason_of

_KEPT = 100
_TITLE = 60
_ID = re.compile(r"[0-9]{8}-[0-9]{6}(?:-[0-9]+)?")


@dataclass(frozen=True)
class Chat:
    """A kept conversation; ``data`` is what its file holds."""

    id: str
    modified: datetime
    data: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The name of the model."""
        return str(self.data.get("model", ""))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages, as those of ``/api/chat``."""
        return list(self.data.get("messages") or ())

    @property
    def title(self) -> str:
        """The first message of the user, in one line."""
        for message in self.messages:
            if message.get("role") == "user":
                text = " ".join(str(message.get("content", "")).split())
                return text if len(text) <= _TITLE else f"{text[: _TITLE - 3]}..."
        return ""


class Chats:
    """The chats of the user's home directory. Methods raise OllamaError for a file that cannot be used."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = Path.home() / ".ollama" / "chats" if folder is None else folder

    def all(self) -> list[Chat]:
        """Return the chats, the last one first; files that are not chats are ignored."""
        return [chat for path in self._paths() if (chat := _read(path)) is not None]

    def last(self, model: str | None = None) -> Chat:
        """Return the last chat, or the last one with ``model``."""
        for path in self._paths():
            chat = _read(path)
            if chat is not None and model in (None, chat.model):
                return chat
        raise OllamaError(0, f"no chat with {model} is kept" if model else "no chat is kept")

    def get(self, id: str) -> Chat:
        """Return the chat ``id``."""
        chat = _read(self._folder / f"{id}.json") if _ID.fullmatch(id) else None
        if chat is None:
            raise OllamaError(0, f"chat {id} not found: ollama chats lists them")
        return chat

    def delete(self, id: str) -> None:
        """Delete the chat ``id``."""
        self.get(id)
        try:
            (self._folder / f"{id}.json").unlink(missing_ok=True)
        except OSError as error:
            raise _failure(error) from error

    def new_id(self) -> str:
        """Return an id that no chat has, also none of another process."""
        base = id = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        number = 1
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            while not self._reserve(id):
                number += 1
                id = f"{base}-{number}"
        except OSError as error:
            raise _failure(error) from error
        return id

    def _reserve(self, id: str) -> bool:
        """Create the file of a chat; return whether it was not there before."""
        try:
            (self._folder / f"{id}.json").touch(0o600, exist_ok=False)
        except FileExistsError:
            return False
        return True

    def save(self, id: str, data: Mapping[str, Any]) -> None:
        """Write a chat, which only the user may read; it replaces the former state at once."""
        path = self._folder / f"{id}.json"
        temporary = path.with_suffix(".tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(data, file, ensure_ascii=False)
            temporary.replace(path)
            for old in self._paths()[_KEPT:]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise _failure(error) from error

    def _paths(self) -> Sequence[Path]:
        try:
            found = [path for path in self._folder.glob("*.json") if _ID.fullmatch(path.stem)]
            return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.stem), reverse=True)
        except OSError as error:
            raise _failure(error) from error


def _read(path: Path) -> Chat | None:
    """Return the chat in a file, None if there is none."""
    try:
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("messages"), list):
        return None
    return Chat(path.stem, modified, data)


def _failure(error: OSError) -> OllamaError:
    return OllamaError(0, f"chats cannot be kept: {reason_of(error)}: {error.filename}")
