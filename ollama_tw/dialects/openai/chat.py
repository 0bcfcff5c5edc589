"""Requests and replies of ``/v1/chat/completions``, whole and streamed.

Source: ollama: openai/openai.go, FromChatRequest, ToChatCompletion, ToChunks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from ollama_tw.dialects.openai.finish import finish_reason
from ollama_tw.dialects.openai.messages import ChatMessage, native_messages
from ollama_tw.dialects.openai.parameters import (
    CompletionParameters,
    Reasoning,
    ResponseFormat,
    choice_count,
    is_strict,
    logit_bias,
    native_format,
    seeded,
    think_value,
    without_none,
)
from ollama_tw.dialects.openai.tools import call_object, checked_tools, chosen_tools, several_calls
from ollama_tw.dialects.openai.usage import usage
from ollama_tw.errors import OllamaError
from ollama_tw.wire.dialect_extras import RequestExtras
from ollama_tw.wire.native import CallPartRecord, ChatRecord, ChatRequest, Logprob, ToolCall

GO_TYPE = "openai.ChatCompletionRequest"
FINGERPRINT = "fp_ollama"


class ChatCompletionRequest(CompletionParameters, kw_only=True):
    """The body of ``/v1/chat/completions``."""

    messages: list[ChatMessage] = msgspec.field(default_factory=list)
    max_completion_tokens: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[Any] = msgspec.field(default_factory=list)
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: str = ""
    logprobs: bool = False
    top_logprobs: int = 0


def native_requests(request: ChatCompletionRequest) -> tuple[list[ChatRequest], RequestExtras]:
    """Return one native request for each choice, and the extras of all.

    Raises :class:`OllamaError` 400.
    """
    if not request.messages:
        raise OllamaError(400, "[] is too short - 'messages'")
    tools, must_call = chosen_tools(checked_tools(request.tools), request.tool_choice)
    effort = request.reasoning_effort if request.reasoning is None else request.reasoning.effort
    options = {
        "temperature": 1.0,
        "top_p": 1.0,
        **request.options,
        **without_none(
            temperature=request.temperature,
            top_p=request.top_p,
            num_predict=_limit(request),
            seed=request.seed,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            stop=_stop(request.stop),
            think_budget=None if request.reasoning is None else request.reasoning.max_tokens,
        ),
    }
    messages = native_messages(request.messages)
    requests = [
        ChatRequest(
            model=request.model,
            messages=messages,
            tools=tools,
            options=seeded(options, number),
            format=native_format(request.response_format),
            think=think_value(effort),
            logprobs=request.logprobs,
            top_logprobs=request.top_logprobs,
            debug_render_only=request.debug_render_only,
        )
        for number in range(choice_count(request.n))
    ]
    return requests, RequestExtras(
        must_call=must_call,
        parallel_calls=several_calls(request.tool_choice, request.parallel_tool_calls),
        logit_bias=logit_bias(request.logit_bias),
        drops_thinking=True,
        strict_format=is_strict(request.response_format),
        streams_calls=True,
    )


def _limit(request: ChatCompletionRequest) -> int | None:
    return request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens


def _stop(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for text in value if isinstance(text, str)]
    return None


@dataclass(frozen=True)
class CompletionIdentity:
    """The fields that identify a completion, in every chunk. ``created`` is in Unix seconds."""

    id: str
    created: int
    model: str


def whole_reply(identity: CompletionIdentity, records: Sequence[ChatRecord]) -> dict[str, Any]:
    """Return the reply to a request without a stream, with one choice for each of ``records``."""
    reply = {
        "id": identity.id,
        "object": "chat.completion",
        "created": identity.created,
        "model": identity.model,
        "system_fingerprint": FINGERPRINT,
        "choices": [_choice(index, record) for index, record in enumerate(records)],
        "usage": usage([records]),
    }
    if records and records[0].debug_info is not UNSET:
        reply["_debug_info"] = records[0].debug_info
    return reply


def _choice(index: int, record: ChatRecord) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": record.message.content}
    if record.message.thinking:
        message["reasoning"] = record.message.thinking
    if record.message.tool_calls:
        message["tool_calls"] = [call_object(call) for call in record.message.tool_calls]
    choice = {
        "index": index,
        "message": message,
        "finish_reason": finish_reason(record, called=bool(record.message.tool_calls)),
    }
    if record.logprobs:
        choice["logprobs"] = logprobs_object(record.logprobs)
    return choice


def logprobs_object(logprobs: Sequence[Logprob]) -> dict[str, Any]:
    """Return the ``logprobs`` of a choice. OpenAI's clients require all fields."""
    return {"content": [_logprob(one) for one in logprobs]}


def _logprob(one: Logprob) -> dict[str, Any]:
    return {
        "token": one.token,
        "logprob": one.logprob,
        "bytes": one.bytes or None,
        "top_logprobs": [
            {"token": top.token, "logprob": top.logprob, "bytes": top.bytes or None}
            for top in one.top_logprobs or []
        ],
    }


class ChoiceStream:
    """Translates the records of one choice to chunks. Used by one thread at a time."""

    def __init__(self, identity: CompletionIdentity, index: int) -> None:
        self._identity = identity
        self._index = index
        self._first = True
        self._called = False
        self._begun: set[str] = set()
        """Ids of the calls whose arguments have come in parts."""

    def feed(self, record: ChatRecord) -> list[dict[str, Any]]:
        """Return the chunks for ``record``."""
        chunks = self._deltas(record)
        if record.done:
            reason = finish_reason(record, called=self._called) or "stop"
            chunks.append(self._chunk({}, finish_reason=reason))
        return chunks

    def _deltas(self, record: ChatRecord) -> list[dict[str, Any]]:
        message, logprobs = record.message, record.logprobs or []
        if isinstance(record, CallPartRecord):
            return [self._part(record, logprobs)]
        thinking, calls = message.thinking or "", message.tool_calls or []
        self._called = self._called or bool(calls)
        whole = [call for call in calls if call.id not in self._begun]
        if len(whole) < len(calls) and not (message.content or thinking or whole or logprobs):
            return []
        calls = whole
        if record.done and not (self._first or message.content or thinking or calls or logprobs):
            return []
        if thinking and (message.content or calls):
            return [
                self._delta({"reasoning": thinking}, logprobs=logprobs),
                self._delta({"content": message.content}, calls),
            ]
        delta = {"content": message.content}
        if thinking:
            delta["reasoning"] = thinking
        return [self._delta(delta, calls, logprobs)]

    def _part(self, part: CallPartRecord, logprobs: Sequence[Logprob]) -> dict[str, Any]:
        call: dict[str, Any] = {"index": part.index, "function": {"arguments": part.text}}
        if part.id not in self._begun:
            self._begun.add(part.id)
            function = {"name": part.name, "arguments": part.text}
            call = {"id": part.id, "index": part.index, "type": "function", "function": function}
        return self._delta({"tool_calls": [call]}, logprobs=logprobs)

    def _delta(
        self, delta: dict[str, Any], calls: Sequence[ToolCall] = (), logprobs: Sequence[Logprob] = ()
    ) -> dict[str, Any]:
        if self._first:
            delta = {"role": "assistant", **delta}
            self._first = False
        if calls:
            delta["tool_calls"] = [call_object(call) for call in calls]
        return self._chunk(delta, logprobs=logprobs)

    def _chunk(
        self,
        delta: dict[str, Any],
        *,
        finish_reason: str | None = None,
        logprobs: Sequence[Logprob] = (),
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": self._index, "delta": delta, "finish_reason": finish_reason}
        if logprobs:
            choice["logprobs"] = logprobs_object(logprobs)
        return _chunk(self._identity, [choice])


def usage_chunk(identity: CompletionIdentity, finals: Sequence[ChatRecord]) -> dict[str, Any]:
    """Return the chunk after the last choice, for ``include_usage``."""
    return {**_chunk(identity, []), "usage": usage([finals])}


def _chunk(identity: CompletionIdentity, listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": identity.id,
        "object": "chat.completion.chunk",
        "created": identity.created,
        "model": identity.model,
        "system_fingerprint": FINGERPRINT,
        "choices": listed,
    }
