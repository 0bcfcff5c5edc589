"""Writers of the records of a reply, one for each endpoint.

Fields and their order are Ollama's. Source: ollama: api/types.go, GenerateResponse, ChatResponse.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from msgspec import UNSET

from ollama_tw.interfaces import Choice, TokenLogprob, Usage
from ollama_tw.output.stream_parser import Call, CallPart, Content, Event, Thinking
from ollama_tw.wire import native
from ollama_tw.wire.native import (
    CallPartRecord,
    ChatRecord,
    DebugInfo,
    GenerateRecord,
    Message,
    Record,
    StoppedChatRecord,
)
from ollama_tw.wire.timestamps import utc


@dataclass(frozen=True)
class Closing:
    """The figures of the final record. Durations in nanoseconds."""

    done_reason: str
    usage: Usage
    total_duration: int
    load_duration: int
    context: list[int] | None = None
    """Tokens of the whole exchange, where the client gets them."""
    truncated: int = 0
    """Number of tokens that were cut from the prompt."""
    stop_string: str = ""
    """The stop string that ended the output."""

    def fields(self) -> dict[str, Any]:
        """Return the fields of a final record, without figures that are zero."""
        figures = {
            "total_duration": self.total_duration,
            "load_duration": self.load_duration,
            "prompt_eval_count": self.usage.prompt_tokens,
            "prompt_cached_count": self.usage.cached_tokens,
            "prompt_truncated": self.truncated,
            "prompt_eval_duration": self.usage.prompt_duration,
            "eval_count": self.usage.output_tokens,
            # Clients divide by it.
            "eval_duration": max(self.usage.output_duration, 1) if self.usage.output_tokens else 0,
            "draft_count": self.usage.drafted_tokens,
        }
        accepted = {"draft_accepted": self.usage.accepted_tokens} if self.usage.drafted_tokens else {}
        fields = {name: value for name, value in figures.items() if value}
        return {"done": True, "done_reason": self.done_reason, **fields, **accepted}


class RecordWriter(Protocol):
    """Writes the records of one endpoint."""

    def record(
        self,
        events: Sequence[Event],
        logprobs: Sequence[TokenLogprob] = (),
        closing: Closing | None = None,
    ) -> Record:
        """Return the record of ``events``; with ``closing``, the final one."""

    def bare(self, done_reason: str) -> Record:
        """Return the reply to a request that only loads or unloads."""

    def debug(self, prompt: str, images: int) -> Record:
        """Return the reply to ``_debug_render_only`` for a prompt with that number of images."""


def _now() -> str:
    return utc(time.time_ns())


@dataclass(frozen=True)
class GenerateWriter:
    """Writes records of ``/api/generate``; ``model`` is the model reference as the client sent it."""

    model: str

    def record(
        self,
        events: Sequence[Event],
        logprobs: Sequence[TokenLogprob] = (),
        closing: Closing | None = None,
    ) -> GenerateRecord:
        """Return the record of ``events``; with ``closing``, the final one."""
        final = {} if closing is None else closing.fields()
        if closing is not None and closing.context is not None:
            final["context"] = closing.context
        return GenerateRecord(
            model=self.model,
            created_at=_now(),
            response=_content(events),
            thinking=_thinking(events) or UNSET,
            tool_calls=_calls(events) or UNSET,
            logprobs=_wire_logprobs(logprobs) or UNSET,
            **final,
        )

    def bare(self, done_reason: str) -> GenerateRecord:
        """Return the reply to a request that only loads or unloads."""
        return GenerateRecord(model=self.model, created_at=_now(), done=True, done_reason=done_reason)

    def debug(self, prompt: str, images: int) -> GenerateRecord:
        """Return the reply to ``_debug_render_only``."""
        return GenerateRecord(
            model=self.model, created_at=_now(), debug_info=DebugInfo(prompt, images or UNSET)
        )


@dataclass(frozen=True)
class ChatWriter:
    """Writes records of ``/api/chat``; ``model`` is the model reference as the client sent it.

    With ``shows_stop`` the last record is a :class:`StoppedChatRecord` if a stop string ended the output.
    """

    model: str
    shows_stop: bool = False

    def record(
        self,
        events: Sequence[Event],
        logprobs: Sequence[TokenLogprob] = (),
        closing: Closing | None = None,
    ) -> ChatRecord:
        """Return the record of ``events``; with ``closing``, the final one."""
        message = Message(
            role="assistant",
            content=_content(events),
            thinking=_thinking(events) or UNSET,
            tool_calls=_calls(events) or UNSET,
        )
        final = {} if closing is None else closing.fields()
        kind: type[ChatRecord] = ChatRecord
        for part in events:
            if isinstance(part, CallPart):
                kind, final = CallPartRecord, asdict(part)
        if closing is not None and closing.stop_string and self.shows_stop:
            kind, final["stop_string"] = StoppedChatRecord, closing.stop_string
        return kind(
            model=self.model,
            created_at=_now(),
            message=message,
            logprobs=_wire_logprobs(logprobs) or UNSET,
            **final,
        )

    def bare(self, done_reason: str) -> ChatRecord:
        """Return the reply to a request that only loads or unloads."""
        return ChatRecord(
            model=self.model,
            created_at=_now(),
            message=Message(role="assistant"),
            done=True,
            done_reason=done_reason,
        )

    def debug(self, prompt: str, images: int) -> ChatRecord:
        """Return the reply to ``_debug_render_only``."""
        return ChatRecord(
            model=self.model,
            created_at=_now(),
            message=Message(),
            debug_info=DebugInfo(prompt, images or UNSET),
        )


def _content(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Content))


def _thinking(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Thinking))


def _calls(events: Sequence[Event]) -> list[native.ToolCall]:
    return [event.call for event in events if isinstance(event, Call)]


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
