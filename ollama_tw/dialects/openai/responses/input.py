"""Translation of the ``input`` of a response to native messages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from ollama_tw.dialects.openai.messages import native_role
from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode_image, decode_value
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction

REFERENCE = "item_reference"
"""The type of an item that stands for one of an earlier response."""

# Tools that run on OpenAI's servers: what they did is no part of the prompt. An item of compaction is
# encrypted for them.
_HOSTED = frozenset(
    {
        "code_interpreter_call",
        "compaction",
        "computer_call",
        "computer_call_output",
        "file_search_call",
        "image_generation_call",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "web_search_call",
    }
)
# Tools that the client runs and that are no functions: the member with the arguments of a call, and the name
# if the item has none.
_CLIENT_CALLS = {
    "apply_patch_call": ("operation", "apply_patch"),
    "custom_tool_call": ("input", ""),
    "local_shell_call": ("action", "local_shell"),
    "shell_call": ("action", "shell"),
}
_OUTPUTS = frozenset({"function_call_output", *(f"{kind}_output" for kind in _CLIENT_CALLS)})


def input_items(value: Any, new_id: Callable[[], str]) -> list[dict[str, Any]]:
    """Return ``input`` as items with ids, which are ``new_id()`` for those without one.

    Raises :class:`OllamaError` 400 with Ollama's texts.
    """
    if value is None or value == "":
        return []
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise OllamaError(400, f"input must be a string or array: {_kind(value)} given")
    items = []
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise OllamaError(400, f"input[{index}]: an input item must be an object: {_kind(item)} given")
        if not item.get("type") and item.get("role"):
            item = {**item, "type": "message"}
        elif item.keys() == {"id"} or (item.keys() == {"id", "type"} and not item["type"]):
            item = {**item, "type": REFERENCE}
        items.append(item if item.get("id") else {**item, "id": new_id()})
    return items


def native_messages(items: Sequence[Mapping[str, Any]], earlier: int = 0) -> list[Message]:
    """Translate items without references, of which the first ``earlier`` ones are not of this request.

    Raises :class:`OllamaError` 400 with Ollama's texts.
    """
    conversation = _Conversation()
    for index, item in enumerate(items):
        conversation.add(f"input[{index - earlier}]", item)
    return conversation.finish()


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", dict: "an object", str: "a string", list: "an array", type(None): "null"}
    return kinds.get(type(value), "a number")


class _Conversation:
    """Collects messages; reasoning is held until the message that it belongs to."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._thinking = ""
        self._calls: set[str] = set()
        """Calls without outputs so far."""

    def add(self, where: str, item: Mapping[str, Any]) -> None:
        """Add an item; ``where`` is its path in error messages."""
        match kind := item.get("type"):
            case "message":
                self._message(where, item)
            case "function_call":
                self._call(where, item, _string(where, item, "name"), _arguments(where, item))
            case str() if kind in _CLIENT_CALLS:
                key, name = _CLIENT_CALLS[kind]
                given = item.get(key)
                arguments = given if isinstance(given, dict) else {key: given}
                self._call(where, item, _string(where, item, "name") or name, arguments)
            case str() if kind in _OUTPUTS:
                self._output(where, item)
            case "reasoning":
                self._thinking = _string(where, item, "encrypted_content")
            case str() if kind in _HOSTED:
                pass
            case None | "":
                raise OllamaError(400, f"{where}: input item missing required 'type' field")
            case _:
                shown = kind if isinstance(kind, str) else _kind(kind)
                raise OllamaError(400, f'{where}: unknown input item type: "{shown}"')

    def finish(self) -> list[Message]:
        """Return the messages."""
        if self._thinking:
            self._assistant()
        return self._messages

    def _message(self, where: str, item: Mapping[str, Any]) -> None:
        role = _string(where, item, "role")
        content = item.get("content")
        text, images = _content(where, "" if content is None and role == "assistant" else content)
        if role == "assistant":
            last = self._messages[-1] if self._messages else None
            if last is not None and last.tool_calls and self._calls and not self._thinking:
                # Some clients place the text beside a call between the call and its output.
                last.content = "\n".join(filter(None, (last.content, text)))
                return
            message = self._assistant()
            message.content = text
        else:
            message = Message(native_role(role), text)
            self._messages.append(message)
        message.images = images or UNSET

    def _assistant(self) -> Message:
        """Add a message of the assistant with the held reasoning."""
        message = Message("assistant", "", thinking=self._thinking or UNSET)
        self._thinking = ""
        self._messages.append(message)
        return message

    def _call(self, where: str, item: Mapping[str, Any], name: str, arguments: dict[str, Any]) -> None:
        last = self._messages[-1] if self._messages else None
        joined = last is not None and last.role == "assistant" and not self._thinking
        message = last if joined and last is not None else self._assistant()
        call_id = _string(where, item, "call_id")
        call = ToolCall(call_id, ToolCallFunction(0, name, arguments))
        message.tool_calls = [*(message.tool_calls or []), call]
        self._calls.add(call_id)

    def _output(self, where: str, item: Mapping[str, Any]) -> None:
        output = item.get("output")
        # An apply_patch_call_output may be its status only.
        text, images = _content(where, _string(where, item, "status") if output is None else output)
        # Outputs of local_shell_call have the id of the call in "id".
        call_id = _string(where, item, "call_id") or _string(where, item, "id")
        self._calls.discard(call_id)
        self._messages.append(Message("tool", text, images=images or UNSET, tool_call_id=call_id or UNSET))


def _string(where: str, item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str | None):
        raise OllamaError(400, f"{where}: {key} must be a string: {_kind(value)} given")
    return value or ""


def _arguments(where: str, item: Mapping[str, Any]) -> dict[str, Any]:
    text = _string(where, item, "arguments")
    if not text.strip():
        return {}
    try:
        value = decode_value(text, alone=True)
    except OllamaError as error:
        raise OllamaError(400, f"failed to parse function call arguments: {error.message}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise OllamaError(400, f"failed to parse function call arguments: {_kind(value)} given")
    return value


def _content(where: str, content: Any) -> tuple[str, list[bytes]]:
    """Return the joined texts, and the images."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise OllamaError(400, f"{where}: content must be a string or array: {_kind(content)} given")
    texts, images = [], []
    for index, part in enumerate(content):
        inside = f"{where}: content[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        match kind:
            case "input_text" | "output_text" | "text":
                texts.append(_string(inside, part, "text"))
            case "refusal":
                texts.append(_string(inside, part, "refusal"))
            case None if isinstance(part, dict) and ("stdout" in part or "stderr" in part):
                # The parts of a shell_call_output have no type.
                texts += [_string(inside, part, "stdout"), _string(inside, part, "stderr")]
            case "input_image":
                if url := _string(inside, part, "image_url"):
                    images.append(decode_image(url))
            case "input_file":
                raise OllamaError(400, "file inputs are not currently supported")
            case _:
                shown = kind if isinstance(kind, str) else ""
                raise OllamaError(400, f"{inside}: unknown content type: {shown}")
    return "".join(texts), images
