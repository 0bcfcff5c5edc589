"""The response object and the items of its output."""

from dataclasses import dataclass
from typing import Any

from ollama_tw.dialects.openai.responses.request import ResponsesRequest
from ollama_tw.dialects.openai.tools import arguments_text
from ollama_tw.wire.native import ChatRecord


@dataclass(frozen=True)
class ResponseIdentity:
    """The fields that identify a response. ``key`` is unique, ``created`` is in Unix seconds."""

    key: str
    created: int

    @property
    def id(self) -> str:
        """The id of the response."""
        return f"resp_{self.key}"

    def item_id(self, prefix: str, index: int) -> str:
        """Return the id of item ``index`` of the output; ``prefix`` is that of its type."""
        return f"{prefix}_{self.key}_{index}"


def final_status(record: ChatRecord) -> str:
    """Return the status of a response and of its last item: whether the reply was cut."""
    return "incomplete" if record.done_reason in ("length", "repetition") else "completed"


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
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": request.model,
        "previous_response_id": request.previous_response_id or None,
        "instructions": request.instructions or None,
        "output": output,
        "error": error,
        "tools": request.tools,
        "tool_choice": "auto" if request.tool_choice is None else request.tool_choice,
        "truncation": request.truncation or "disabled",
        "parallel_tool_calls": request.parallel_tool_calls is not False,
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
        "store": request.store is not False,
        "background": request.background,
        "service_tier": "default",
        "metadata": request.metadata if isinstance(request.metadata, dict) else {},
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


def call_item(
    item_id: str, call_id: str, name: str, arguments: str, status: str = "completed"
) -> dict[str, Any]:
    """Return an item of a tool call."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def whole_reply(
    request: ResponsesRequest, identity: ResponseIdentity, record: ChatRecord, *, completed: int
) -> dict[str, Any]:
    """Return the reply to a request without a stream. ``completed`` is in Unix seconds."""
    output: list[dict[str, Any]] = []
    status = final_status(record)
    if record.message.thinking:
        output.append(reasoning_item(identity.item_id("rs", 0), record.message.thinking))
    calls = record.message.tool_calls or []
    if record.message.content or not calls:
        parts = [text_part(record.message.content)]
        item_id = identity.item_id("msg", len(output))
        output.append(message_item(item_id, parts, "completed" if calls else status))
    for call in calls:
        output.append(
            call_item(identity.item_id("fc", len(output)), call.id, call.function.name, arguments_text(call))
        )
    return response(
        request,
        identity,
        output,
        status=status,
        completed=completed if status == "completed" else None,
        usage=usage(record),
    )
