"""The records of a reply, in the shape of generate or of chat.

Source: ``spec/inference-api.md`` sections 1.4, 1.7, 1.9, 1.12, 2.2 and 2.5.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import UNSET

from ollama_tw.interfaces import Choice, TokenLogprob, Usage
from ollama_tw.wire import native
from ollama_tw.wire.native import ChatRecord, DebugInfo, GenerateRecord, Message, Record, ToolCall
from ollama_tw.wire.timestamps import utc


@dataclass(frozen=True)
class Delta:
    """What one record adds to the reply."""

    content: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Closing:
    """What the final record says of the whole run. Durations in nanoseconds."""

    done_reason: str
    usage: Usage
    total_duration: int
    load_duration: int
    context: list[int] | None = None
    truncated: int = 0
    """Tokens of the prompt that were cut away."""

    def figures(self) -> dict[str, Any]:
        """The figures by their names on the wire, without those that are zero."""
        figures = {
            "total_duration": self.total_duration,
            "load_duration": self.load_duration,
            "prompt_eval_count": self.usage.prompt_tokens,
            "prompt_cached_count": self.usage.cached_tokens,
            "prompt_truncated": self.truncated,
            "prompt_eval_duration": self.usage.prompt_duration,
            "eval_count": self.usage.output_tokens,
            "eval_duration": self.usage.output_duration,
        }
        return {name: value for name, value in figures.items() if value}


class Shape(Protocol):
    """How one endpoint writes its records."""

    def delta(self, delta: Delta) -> Record:
        """A record in the middle of a reply."""

    def final(self, delta: Delta, closing: Closing) -> Record:
        """The last record; ``delta`` is empty in a stream and everything in a single record."""

    def bare(self, done_reason: str) -> Record:
        """The reply to a request that only loads or unloads."""

    def debug(self, prompt: str, images: int) -> Record:
        """The reply to ``_debug_render_only`` for a prompt with so many images."""


def _now() -> str:
    return utc(time.time_ns())


@dataclass(frozen=True)
class GenerateShape:
    """``/api/generate``; ``model`` is the name as the client wrote it."""

    model: str

    def delta(self, delta: Delta) -> GenerateRecord:
        return self._record(delta)

    def final(self, delta: Delta, closing: Closing) -> GenerateRecord:
        return self._record(
            delta,
            done=True,
            done_reason=closing.done_reason,
            context=UNSET if closing.context is None else closing.context,
            **closing.figures(),
        )

    def bare(self, done_reason: str) -> GenerateRecord:
        return self._record(Delta(), done=True, done_reason=done_reason)

    def debug(self, prompt: str, images: int) -> GenerateRecord:
        return self._record(Delta(), debug_info=DebugInfo(prompt, images or UNSET))

    def _record(self, delta: Delta, **rest: Any) -> GenerateRecord:
        return GenerateRecord(
            model=self.model,
            created_at=_now(),
            response=delta.content,
            thinking=delta.thinking or UNSET,
            tool_calls=list(delta.calls) or UNSET,
            logprobs=_wire_logprobs(delta.logprobs) or UNSET,
            **rest,
        )


@dataclass(frozen=True)
class ChatShape:
    """``/api/chat``; ``model`` is the name as the client wrote it."""

    model: str

    def delta(self, delta: Delta) -> ChatRecord:
        return self._record(delta)

    def final(self, delta: Delta, closing: Closing) -> ChatRecord:
        return self._record(delta, done=True, done_reason=closing.done_reason, **closing.figures())

    def bare(self, done_reason: str) -> ChatRecord:
        return self._record(Delta(), done=True, done_reason=done_reason)

    def debug(self, prompt: str, images: int) -> ChatRecord:
        info = DebugInfo(prompt, images or UNSET)
        return ChatRecord(model=self.model, created_at=_now(), message=Message(), debug_info=info)

    def _record(self, delta: Delta, **rest: Any) -> ChatRecord:
        message = Message(
            role="assistant",
            content=delta.content,
            thinking=delta.thinking or UNSET,
            tool_calls=list(delta.calls) or UNSET,
        )
        return ChatRecord(
            model=self.model,
            created_at=_now(),
            message=message,
            logprobs=_wire_logprobs(delta.logprobs) or UNSET,
            **rest,
        )


def _wire_logprobs(logprobs: Sequence[TokenLogprob]) -> list[native.Logprob]:
    return [
        native.Logprob(
            **_wire_choice(one.chosen),
            top_logprobs=[native.TokenLogprob(**_wire_choice(choice)) for choice in one.top] or UNSET,
        )
        for one in logprobs
    ]


def _wire_choice(choice: Choice) -> dict[str, Any]:
    return {
        "token": choice.data.decode("utf-8", "replace"),
        "logprob": choice.logprob,
        "bytes": list(choice.data) or UNSET,
    }
