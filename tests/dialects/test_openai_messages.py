import json
from typing import Any

import pytest

from ollama_tw.dialects.openai.messages import ChatMessage, native_messages
from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode, decode_image
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction


def read(*messages: dict[str, Any]) -> list[Message]:

    found = [decode(json.dumps(one).encode(), ChatMessage, go_type="x") for one in messages]
    return native_messages(found)


def refusal(message: dict[str, Any]) -> str:
    with pytest.raises(OllamaError) as error:
        read(message)
    assert error.value.status == 400
    return error.value.message


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


def texts(*parts: str | dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]


def test_the_parts_of_a_message_are_one_message() -> None:
    recording = {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}
    named = {"type": "image_url", "image_url": "data:;base64,aGk="}
    assert read({"role": "user", "content": texts("what is", "this?", IMAGE, named, recording)}) == [
        Message("user", "what is\nthis?", images=[b"hi", b"hi", b"hi"])
    ]
    assert read({"role": "user", "content": texts(IMAGE)}) == [Message("user", "", images=[b"hi"])]


def test_an_image_between_texts_keeps_its_place() -> None:
    assert read({"role": "user", "content": texts(IMAGE, "a", IMAGE, "b")}) == [
        Message("user", "[img]\na\n[img]\nb", images=[b"hi", b"hi"])
    ]


def test_calls_and_their_results() -> None:
    call = {
        "id": "c1",
        "index": 4,
        "type": "function",
        "function": {"name": "f", "arguments": '{"b":1,"a":2}'},
    }
    found = read(
        {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "tool", "tool_call_id": "c1", "name": "g", "content": [{"type": "text", "text": "done"}]},
    )
    assert found[0] == Message(
        "assistant",
        "",
        thinking="hm",
        tool_calls=[ToolCall("c1", ToolCallFunction(0, "f", {"b": 1, "a": 2}))],
    )
    assert found[1] == Message("tool", "done", tool_name="f", tool_call_id="c1")
    assert found[2] == Message("tool", "done", tool_name="g", tool_call_id="c1")


def test_invalid_contents() -> None:
    assert read({"role": "assistant", "content": None, "tool_calls": []}) == [Message("assistant", "")]
    assert read({"role": "user", "content": []}) == []
    assert refusal({"role": "assistant", "content": None}) == "invalid message content type: <nil>"
    assert refusal({"role": "user", "content": True}) == "invalid message content type: bool"
    assert refusal({"role": "user", "content": {}}) == "invalid message content type: map[string]interface {}"


def test_developers_are_the_system() -> None:
    assert read({"role": "developer", "content": "Be brief."}) == [Message("system", "Be brief.")]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("text", "invalid message format"),
        ({"type": "text"}, "invalid message format"),
        ({"type": "image_url", "image_url": 7}, "invalid message format"),
        ({"type": "input_audio"}, "invalid input_audio format"),
        ({"type": "input_audio", "input_audio": {}}, "invalid input_audio format: missing data"),
        (
            {"type": "input_audio", "input_audio": {"data": "a?aa"}},
            "invalid input_audio base64 data: illegal base64 data at input byte 1",
        ),
    ],
)
def test_invalid_parts(part: Any, message: str) -> None:
    assert refusal({"role": "user", "content": [part]}) == message


@pytest.mark.parametrize("arguments", ["", None, "{}", "null"])
def test_a_call_without_arguments(arguments: Any) -> None:
    message = {"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": arguments}}]}
    assert read(message) == [Message("assistant", "", tool_calls=[ToolCall("", ToolCallFunction(0, "", {}))])]


@pytest.mark.parametrize("arguments", ["[]", "7", "{", {}, '{"a":1}{"b":2}', '{"a":1} x'])
def test_arguments_that_are_not_an_object(arguments: Any) -> None:
    message = {"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": arguments}}]}
    assert refusal(message) == "invalid tool call arguments"


@pytest.mark.parametrize("kind", ["jpeg", "jpg", "png", "webp"])
def test_kinds_of_images(kind: str) -> None:
    assert decode_image(f"data:image/{kind};base64,aGk=") == b"hi"


@pytest.mark.parametrize("url", ["data:image/gif;base64,aGk=", "data:image/png;base64,a", "file:///x", ""])
def test_invalid_images(url: str) -> None:
    with pytest.raises(OllamaError, match="invalid image input"):
        decode_image(url)
