from typing import Any

import pytest

from ollama_tw.dialects.openai.responses.input import input_items, native_messages
from ollama_tw.errors import OllamaError
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction


def read(given: Any) -> list[Message]:
    return native_messages(input_items(given, lambda: "new"))


def call(name: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c_{name}", "name": name, "arguments": '{"a":1}'}


def native(name: str) -> ToolCall:
    return ToolCall(f"c_{name}", ToolCallFunction(0, name, {"a": 1}))


def output(name: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"c_{name}", "output": "done"}


def called(name: str, arguments: dict[str, Any]) -> list[Message]:
    call = ToolCall("c", ToolCallFunction(0, name, arguments))
    return [Message("assistant", "", tool_calls=[call]), Message("tool", "done", tool_call_id="c")]


RESULT = Message("tool", "done", tool_call_id="c_f")


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        (None, []),
        ("", []),
        ("hi", [Message("user", "hi")]),
        ([{"role": "user", "content": "hi"}], [Message("user", "hi")]),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}],
                }
            ],
            [Message("user", "ab")],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
                        {"type": "input_image", "file_id": "f"},
                    ],
                }
            ],
            [Message("user", "", images=[b"hi"])],
        ),
        ([call("f"), call("g")], [Message("assistant", "", tool_calls=[native("f"), native("g")])]),
        (
            [{"role": "assistant", "content": "so"}, call("f"), output("f")],
            [Message("assistant", "so", tool_calls=[native("f")]), RESULT],
        ),
        (
            [call("f"), {"role": "assistant", "content": "so"}, output("f")],
            [Message("assistant", "so", tool_calls=[native("f")]), RESULT],
        ),
        (
            [{"type": "reasoning", "summary": [], "encrypted_content": "hm"}, call("f")],
            [Message("assistant", "", thinking="hm", tool_calls=[native("f")])],
        ),
        (
            [{"type": "reasoning", "encrypted_content": "hm"}, {"type": "web_search_call"}],
            [Message("assistant", "", thinking="hm")],
        ),
        (
            [
                {
                    "type": "function_call_output",
                    "call_id": "c_f",
                    "output": [{"type": "input_text", "text": "done"}],
                }
            ],
            [RESULT],
        ),
        (
            [
                {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
            ],
            called("patch", {"input": "*** Begin"}),
        ),
        (
            [
                {"type": "local_shell_call", "call_id": "c", "action": {"command": ["ls"]}},
                {"type": "local_shell_call_output", "id": "c", "output": "done"},
            ],
            called("local_shell", {"command": ["ls"]}),
        ),
        (
            [
                {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
                {
                    "type": "shell_call_output",
                    "call_id": "c",
                    "output": [{"stdout": "do", "stderr": "ne", "outcome": {"type": "exit", "exit_code": 1}}],
                },
            ],
            called("shell", {"commands": ["ls"]}),
        ),
        (
            [{"type": "apply_patch_call_output", "call_id": "c", "status": "completed"}],
            [Message("tool", "completed", tool_call_id="c")],
        ),
        (
            [{"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}, {"type": "compaction"}],
            [Message("assistant", "", tool_calls=[ToolCall("c", ToolCallFunction(0, "f", {}))])],
        ),
        (
            [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "null"}],
            [Message("assistant", "", tool_calls=[ToolCall("c", ToolCallFunction(0, "f", {}))])],
        ),
        (
            [
                {"role": "assistant", "content": None},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            ],
            [Message("assistant", ""), Message("assistant", "No.")],
        ),
    ],
)
def test_items_become_messages(given: Any, messages: list[Message]) -> None:
    assert read(given) == messages


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "input must be a string or array: an object given"),
        ([{}], "input[0]: input item missing required 'type' field"),
        (["x", {}], "input[0]: an input item must be an object: a string given"),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "x"}]}],
            "input[0]: content[1]: unknown content type: x",
        ),
        (
            [{"role": "user", "content": 7}],
            "input[0]: content must be a string or array: a number given",
        ),
        ([{"role": "user", "content": [{"type": "input_file"}]}], "file inputs are not currently supported"),
        (
            [{"type": "function_call", "arguments": '{"a":1}{"b":2}'}],
            "failed to parse function call arguments: unexpected text after the JSON value at byte 8",
        ),
        (
            [{"role": "user", "content": None}],
            "input[0]: content must be a string or array: null given",
        ),
        (
            [{"type": "function_call", "arguments": "[]"}],
            "failed to parse function call arguments: an array given",
        ),
    ],
)
def test_invalid_items(given: Any, message: str) -> None:
    with pytest.raises(OllamaError) as error:
        read(given)
    assert (error.value.status, error.value.message) == (400, message)
