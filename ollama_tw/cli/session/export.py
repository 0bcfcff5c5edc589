"""A conversation as a file: Markdown or JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_TITLES = {"system": "System", "user": "User", "assistant": "Assistant"}


def as_markdown(model: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the conversation with a heading for each message; images are only mentioned."""
    parts = [f"# Conversation with {model}"]
    for message in messages:
        parts.append(f"## {_TITLES.get(message['role'], message['role'])}")
        if thinking := message.get("thinking"):
            parts.append(f"<details><summary>Thinking</summary>\n\n{thinking.strip()}\n\n</details>")
        if images := message.get("images"):
            parts.append(f"*{len(images)} file(s)*")
        parts.append(message.get("content", "").strip())
    return "\n\n".join(parts) + "\n"


def as_json(model: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the conversation as the fields of a request to ``/api/chat``."""
    return json.dumps({"model": model, "messages": messages}, ensure_ascii=False, indent=2) + "\n"


def export(path: Path, model: str, messages: Sequence[Mapping[str, Any]]) -> None:
    """Write the conversation to ``path``, as JSON if the name ends so; raises OSError."""
    write = as_json if path.suffix.lower() == ".json" else as_markdown
    path.write_text(write(model, messages), "utf-8")
