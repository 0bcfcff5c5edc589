"""Requests and records of generate, chat and embed. The fields are in their order on the wire.

Source: ollama: api/types.go.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode_image, decode_value

IMAGE_MARK = "[img]"
"""Text that stands for the next image of its message."""


class RunRequest(msgspec.Struct, kw_only=True):
    """The common fields of generate and chat. Fields of type ``Any`` have error messages of their own."""

    model: str = ""
    stream: bool | None = None
    format: Any = UNSET
    """``"json"``, a JSON schema, ``""`` or None; unset if absent, which differs from None."""
    keep_alive: Any = None
    options: dict[str, Any] = {}
    think: Any = None
    truncate: bool | None = None
    shift: bool | None = None
    debug_render_only: bool = msgspec.field(default=False, name="_debug_render_only")
    logprobs: bool = False
    top_logprobs: int = 0
    progress: bool | None = None
    """Send records about the queue, the load and the prompt before the first token. Not in Ollama."""


class GenerateRequest(RunRequest, kw_only=True):
    """``POST /api/generate``."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] | None = None
    raw: bool = False
    images: list[bytes] = []


class ToolCallFunction(msgspec.Struct):
    """The function of a call; all fields are always sent, ``arguments`` in the model's order."""

    index: int = 0
    name: str = ""
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)

    @staticmethod
    def normalised(found: dict[str, Any]) -> dict[str, Any]:
        """Accept arguments as JSON text; no text and null are no arguments. Ollama refuses texts."""
        text = found.get("arguments")
        if not isinstance(text, str):
            return found
        try:
            value = decode_value(text, alone=True) if text.strip() else None
        except OllamaError:
            raise OllamaError(
                400, 'the "arguments" of a tool call must be an object, or an object as JSON text'
            ) from None
        return {**found, "arguments": {} if value is None else value}


class ToolCall(msgspec.Struct, omit_defaults=True):
    """A model's call of a tool."""

    id: str = ""
    function: ToolCallFunction = msgspec.field(default_factory=ToolCallFunction)


class Message(msgspec.Struct):
    """One message of a chat; only role and content are always sent."""

    role: str = ""
    content: str = ""
    thinking: str | UnsetType = UNSET
    images: list[bytes] | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    tool_name: str | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.role = self.role.lower()

    @staticmethod
    def normalised(found: dict[str, Any]) -> dict[str, Any]:
        """Accept content in parts, as OpenAI has it: texts are joined, images are appended to ``images``."""
        parts = found.get("content")
        if not isinstance(parts, list):
            return found
        texts: list[str] = []
        images = list(found.get("images") or ())
        for part in parts:
            match part:
                case {"type": "text", "text": str(text)}:
                    texts.append(text)
                case {"type": "image_url", "image_url": str(url) | {"url": str(url)}}:
                    images.append(decode_image(url))
                case _:
                    raise OllamaError(
                        400, '"content" must be a string or an array of parts of type "text" or "image_url"'
                    )
        return {**found, "content": "".join(texts), **({"images": images} if images else {})}


class ChatRequest(RunRequest, kw_only=True):
    """``POST /api/chat``."""

    messages: list[Message] = []
    tools: list[dict[str, Any]] = []


class EmbedRequest(msgspec.Struct, kw_only=True):
    """``POST /api/embed``."""

    model: str = ""
    input: Any = None
    truncate: bool | None = None
    dimensions: int = 0
    keep_alive: Any = None
    options: dict[str, Any] = {}


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    """``POST /api/embeddings``, the older endpoint."""

    model: str = ""
    prompt: str = ""
    keep_alive: Any = None
    options: dict[str, Any] = {}


class EmbedRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The reply of ``/api/embed``. Durations are in nanoseconds; zeros are not sent."""

    model: str
    remote_model: str = ""
    remote_host: str = ""
    embeddings: list[list[float]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class EmbeddingsRecord(msgspec.Struct):
    """The reply of ``/api/embeddings``."""

    embedding: list[float]


class TokenLogprob(msgspec.Struct, omit_defaults=True):
    """An alternative token and its log probability."""

    token: str
    logprob: float
    bytes: list[int] | UnsetType = UNSET


class Logprob(msgspec.Struct, omit_defaults=True):
    """A generated token with its alternatives."""

    token: str
    logprob: float
    bytes: list[int] | UnsetType = UNSET
    top_logprobs: list[TokenLogprob] | UnsetType = UNSET


class DebugInfo(msgspec.Struct):
    """The reply to ``_debug_render_only``."""

    rendered_template: str
    image_count: int | UnsetType = UNSET


class RunRecord(msgspec.Struct, kw_only=True):
    """The first fields of the records of generate and chat.

    Each declares the other common fields itself: their order on the wire differs, and the fields of a
    base class come first.
    """

    model: str
    remote_model: str | UnsetType = UNSET
    remote_host: str | UnsetType = UNSET
    created_at: str


class GenerateRecord(RunRecord, kw_only=True):
    """One record of a generate stream, or the whole reply. Durations are in nanoseconds.

    Fields that Ollama does not have: ``prompt_cached_count``, the tokens of the prompt that the KV cache
    held; ``prompt_truncated``, the tokens that were removed to fit the context; ``draft_count``, the tokens
    that were drafted and evaluated, and ``draft_accepted``, those of them that became output.
    """

    response: str = ""
    thinking: str | UnsetType = UNSET
    done: bool = False
    done_reason: str | UnsetType = UNSET
    context: list[int] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_cached_count: int | UnsetType = UNSET
    prompt_truncated: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    draft_count: int | UnsetType = UNSET
    draft_accepted: int | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(default=UNSET, name="_debug_info")
    logprobs: list[Logprob] | UnsetType = UNSET


class ChatRecord(RunRecord, kw_only=True):
    """One record of a chat stream, or the whole reply; see :class:`GenerateRecord`."""

    message: Message
    done: bool = False
    done_reason: str | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(default=UNSET, name="_debug_info")
    logprobs: list[Logprob] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_cached_count: int | UnsetType = UNSET
    prompt_truncated: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    draft_count: int | UnsetType = UNSET
    draft_accepted: int | UnsetType = UNSET


class StoppedChatRecord(ChatRecord, kw_only=True):
    """The last record of a chat that ``stop_string`` ended. Only the Anthropic API has it."""

    stop_string: str


class CallPartRecord(ChatRecord, kw_only=True):
    """The next part of the arguments of a tool call; the dialects have it, the native API has whole calls.

    ``text`` is JSON. The record of the whole call with the same ``id`` follows, unless it breaks off.
    """

    id: str
    index: int
    name: str
    text: str


Record = GenerateRecord | ChatRecord

Emit = Callable[[Any], None]
"""Record sink of a streamed reply, called on a worker thread.

Blocks while the client reads slowly; raises Cancelled after the client has disconnected."""

Note = Callable[[str], object]
"""Sink of the parts of a request's schemas that the output may violate: pointer and reason. Any thread."""


def ignore(_: str) -> None:
    """Take no note."""


def error_object(message: str) -> dict[str, str]:
    """Return the body of an error reply, and the last record of a stream that fails."""
    return {"error": message}
