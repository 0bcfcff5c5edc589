"""Rendering of a Go template with fixed messages and time, for the tests of the language."""

from datetime import datetime
from typing import Any

from ollama_tw.templates.gotemplate import parse

NOW = datetime(2026, 3, 1, 23, 59)
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hé"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": {"n": 1, "a": []}}}],
    },
    {"role": "tool", "content": "7", "tool_name": "f"},
]


def render(source: str, messages: Any = None, **arguments: Any) -> str:
    """Return the output of ``source``, made a template that mentions the messages."""
    template = parse(source + "{{ if false }}{{ .Messages }}{{ end }}")
    return template.render(MESSAGES if messages is None else messages, now=NOW, **arguments)
