"""Limits of the size of prompts, checked before they are rendered and tokenized.

Tokenizing a prompt of 50 MB takes gigabytes and minutes. A token has a limited number of bytes, so that the
number of bytes tells that a text does not fit a context, however it is tokenized.
"""

import threading
from collections.abc import Sequence
from typing import Any, cast

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.interfaces import IRunner
from ollama_tw.wire.native import Message

TOKEN_BYTES = 256
"""Bytes of a token at most. The longest of real vocabularies are rows of 128 and 256 spaces."""

_MAX_CONTEXTS = 16
"""Lengths of the context that the parts of a prompt may have together which can be cut: messages, context."""


def require_fitting(text: str, limit: int) -> None:
    """Raise OllamaError 400 if ``text`` has more than ``limit`` tokens, however it is tokenized."""
    _require(_size(text) // TOKEN_BYTES, limit)


def require_fitting_messages(messages: Sequence[Message], limit: int) -> None:
    """Raise OllamaError 400 if no cut makes the conversation fit, or it is far longer than the context."""
    _require(_size(messages[-1].content) // TOKEN_BYTES if messages else 0, limit)
    size = sum(_size(message.content) for message in messages)
    _require(max(size // TOKEN_BYTES, len(messages)), limit, _MAX_CONTEXTS)


def require_fitting_tokens(tokens: Sequence[int], limit: int) -> None:
    """Raise OllamaError 400 if the tokens of a request's ``context`` are far more than the context holds."""
    _require(len(tokens), limit, _MAX_CONTEXTS)


def beginning(text: str, limit: int) -> str:
    """Return the part of ``text`` that has its first ``limit`` tokens."""
    return text[: TOKEN_BYTES * limit]


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _require(tokens: int, limit: int, contexts: int = 1) -> None:
    if tokens > contexts * limit:
        raise OllamaError(
            400,
            f"the prompt has at least {tokens} tokens, which exceeds the available context size of {limit}"
            " tokens; shorten the prompt, or raise num_ctx or, on the server, OLLAMA_CONTEXT_LENGTH",
        )


def cancellable(runner: IRunner, cancel: threading.Event) -> IRunner:
    """Return ``runner`` such that its tokenizer raises Cancelled when ``cancel`` is set."""
    return cast(IRunner, _CancellableRunner(runner, cancel))


class _CancellableRunner:
    """A runner that counts no more tokens when the client has disconnected: it raises Cancelled instead."""

    def __init__(self, runner: IRunner, cancel: threading.Event) -> None:
        self._runner = runner
        self._cancel = cancel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the tokens of ``text``; raises Cancelled after a disconnect."""
        if self._cancel.is_set():
            raise Cancelled
        tokens: Sequence[int] = self._runner.tokenize(text, add_special=add_special)
        return tokens
