"""The response object and the items of its output."""

from dataclasses import dataclass
from typing import Any

from ollama_tw.dialects.openai.responses.request import ResponsesRequest
from ollama_tw.dialects.openai.tools import arguments_text
from ollama_tw.wire.native import ChatRecord, ToolCall


@dataclass(frozen=True)
class ResponseIdentity:
    """The fields that identify a response. ``created`` is in Unix seconds."""

    number: int
    created: int

    @property
    def id(self) -> str:
        """The id of the response."""
        return f"resp_{self.number}"


def response(
    request: ResponsesRequest,
    identity: ResponseIdentity,
    output: list[dict[str, Any]],
    *,
    status: str,
    completed: int | None = None,
    usage: dict[str, Any] | None = None,
    error: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return a response in one of its states, with all keys. ``completed`` is in Unix seconds."""
    reasoning = None
    if request.reasoning is not None:
        given = {"effort": request.reasoning.effort, "summary": request.reasoning.summary}
        reasoning = {key: value for key, value in given.items() if value}
    return {
        "id": identity.id,
        "object": "response",
        "created_at": identity.created,
        "completed_at": completed,
        "status": status,
        "incomplete_details": None,
        "model": request.model,
        "previous_response_id": None,
        "instructions": request.instructions or None,
        "output": output,
        "error": error,
        "tools": request.tools,
        "tool_choice": "auto" if request.tool_choice is None else request.tool_choice,
        "truncation": request.truncation or "disabled",
        "parallel_tool_calls": True,
        "text": request.text if isinstance(request.text, dict) else {"format": {"type": "text"}},
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": 0,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "reasoning": reasoning,
        "usage": usage,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": None,
        "store": False,
        "background": request.background,
        "service_tier": "default",
        "metadata": {},
        "safety_identifier": None,
        "prompt_cache_key": None,
    }


def usage(record: ChatRecord) -> dict[str, Any]:
    """Return the token counts of the final record."""
    prompt, output = record.prompt_eval_count or 0, record.eval_count or 0
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": record.prompt_cached_count or 0, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + output,
    }


def reasoning_item(item_id: str, text: str) -> dict[str, Any]:
    """Return an item of thinking; clients send ``encrypted_content`` back in the next request."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {"id": item_id, "type": "reasoning", "summary": summary, "encrypted_content": text}


def message_item(item_id: str, content: list[dict[str, Any]], status: str = "completed") -> dict[str, Any]:
    """Return an item of text."""
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def text_part(text: str) -> dict[str, Any]:
    """Return a part of a message item."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(item_id: str, call: ToolCall, arguments: str, status: str = "completed") -> dict[str, Any]:
    """Return an item of a tool call."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.function.name,
        "arguments": arguments,
    }


def whole_reply(
    request: ResponsesRequest, identity: ResponseIdentity, record: ChatRecord, *, completed: int
) -> dict[str, Any]:
    """Return the reply to a request without a stream. ``completed`` is in Unix seconds."""
    output: list[dict[str, Any]] = []
    if record.message.thinking:
        output.append(reasoning_item(f"rs_{identity.id}", record.message.thinking))
    calls = record.message.tool_calls or []
    if record.message.content or not calls:
        output.append(message_item(f"msg_{identity.number}", [text_part(record.message.content)]))
    output += [
        call_item(f"fc_{identity.id}_{index}", call, arguments_text(call)) for index, call in enumerate(calls)
    ]
    return response(request, identity, output, status="completed", completed=completed, usage=usage(record))
