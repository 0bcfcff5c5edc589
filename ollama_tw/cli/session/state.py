"""State of an interactive session: model, settings, conversation."""

import sys
from dataclasses import dataclass, field
from typing import Any

from ollama_tw.cli.answer import Style
from ollama_tw.cli.chats import Chat
from ollama_tw.cli.lookup import Found
from ollama_tw.cli.session.usage import Usage
from ollama_tw.library.names import InvalidName, parse_name


@dataclass
class State:
    """Fields that a session sends with each message, and the format of its answers.

    ``think`` and ``format`` are None where the request has none. ``messages`` are those since the last
    ``/clear``; the model's own, which the server adds, are in ``found``. ``chat_id`` is the chat in which
    they are kept, "" before that.
    """

    found: Found
    keep_alive: int | str | None
    format: Any
    think: bool | str | None
    think_is_set: bool
    wraps: bool
    hides_thinking: bool
    verbose: bool
    renders: bool
    folds: bool = False
    system: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    chat_id: str = ""
    usage: Usage = field(default_factory=Usage)

    def style(self) -> Style:
        """Return the style of an answer on standard output."""
        return Style.of(
            sys.stdout,
            wraps=self.wraps,
            hides_thinking=self.hides_thinking,
            renders=self.renders and self.format is None,
            folds=self.folds,
        )

    def settings(self) -> dict[str, Any]:
        """Return the fields of a request that are set, except for the messages."""
        fields = {"keep_alive": self.keep_alive, "format": self.format, "think": self.think}
        given = {key: value for key, value in fields.items() if value is not None}
        return {**given, **({"options": self.options} if self.options else {})}

    def set_system(self, text: str) -> None:
        """Set the system message from here on; one that directly precedes is replaced."""
        self.system = text
        message = {"role": "system", "content": text}
        if self.messages and self.messages[-1]["role"] == "system":
            self.messages[-1] = message
        else:
            self.messages.append(message)

    def whole_conversation(self) -> list[dict[str, Any]]:
        """Return the messages of the model, with which each conversation begins, and those of the session."""
        return [*(self.found.shown.get("messages") or []), *self.messages]

    def last_question(self) -> int | None:
        """Return the index of the user's last message, None before the first one."""
        return max((at for at, one in enumerate(self.messages) if one["role"] == "user"), default=None)

    def last_answer(self) -> dict[str, Any] | None:
        """Return the model's last message, None before the first one."""
        return next((one for one in reversed(self.messages) if one["role"] == "assistant"), None)

    def goes_on_with(self, chat: Chat) -> None:
        """Take over a kept conversation with its system message and options."""
        self.chat_id = chat.id
        self.messages = chat.messages
        self.system = str(chat.data.get("system") or "")
        self.options = dict(chat.data.get("options") or {})

    def to_keep(self) -> dict[str, Any]:
        """Return what is kept of the conversation."""
        return {
            "model": self.found.name,
            "system": self.system,
            "options": self.options,
            "messages": self.messages,
        }

    def clear(self) -> None:
        """Forget the conversation, except for the system message."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []
        self.chat_id, self.usage = "", Usage()

    def change_model(self, found: Found) -> None:
        """Continue with another model, without the conversation."""
        self.found = found
        self.messages = []
        self.chat_id, self.usage = "", Usage()
        if not self.think_is_set:
            self.think = True if found.can("thinking") else None

    def creation(self, name: str) -> dict[str, Any]:
        """Return the request that saves the session as the model ``name``.

        Source: ollama: cmd/interactive.go, NewCreateRequest.
        """
        parent = (self.found.shown.get("details") or {}).get("parent_model") or ""
        messages = self.whole_conversation()
        fields = {"system": self.system, "parameters": self.options, "messages": messages}
        return {
            "model": name,
            "from": parent if _is_name(parent) else self.found.name,
            **{key: value for key, value in fields.items() if value},
        }


def _is_name(text: str) -> bool:
    try:
        parse_name(text)
    except InvalidName:
        return False
    return True
