import pytest

from ollama_tw.prompt.conversation import (
    chat_messages,
    generate_messages,
    removes_past_thinking,
    with_image_tags,
    without_past_thinking,
)
from ollama_tw.wire.native import Message

EXAMPLE = [Message("user", "e1"), Message("assistant", "e2")]


def told(messages: list[Message]) -> list[str]:
    return [f"{message.role}: {message.content}" for message in messages]


def test_generate_with_all_parts_of_the_model() -> None:
    messages = generate_messages("hi", model_system="M", embedded=EXAMPLE)
    assert told(messages) == ["system: M", "user: e1", "assistant: e2", "user: hi"]


def test_the_system_of_a_generate_request_replaces_the_models() -> None:
    assert told(generate_messages("hi", system="R", model_system="M")) == ["system: R", "user: hi"]


def test_generate_with_nothing_else() -> None:
    assert generate_messages("hi") == [Message("user", "hi")]


def test_a_context_contains_the_models_messages() -> None:
    messages = generate_messages("hi", model_system="M", embedded=EXAMPLE, continued=True)
    assert told(messages) == ["system: M", "user: hi"]


def test_images_of_generate_go_with_the_prompt() -> None:
    assert generate_messages("hi", system="S", images=[b"a"]) == [
        Message("system", "S"),
        Message("user", "hi", images=[b"a"]),
    ]


@pytest.mark.parametrize(
    ("request_messages", "model_system", "expected"),
    [
        ([Message("user", "hi")], "M", ["system: M", "user: e1", "assistant: e2", "user: hi"]),
        ([Message("user", "hi")], "", ["user: e1", "assistant: e2", "user: hi"]),
        ([Message("system", "R")], "M", ["user: e1", "assistant: e2", "system: R"]),
        (
            [Message("user", "hi"), Message("SYSTEM", "R")],
            "M",
            ["system: M", "user: e1", "assistant: e2", "user: hi", "system: R"],
        ),
        ([], "M", ["system: M", "user: e1", "assistant: e2"]),
    ],
)
def test_chat(request_messages: list[Message], model_system: str, expected: list[str]) -> None:
    assert told(chat_messages(request_messages, model_system=model_system, embedded=EXAMPLE)) == expected


@pytest.mark.parametrize(
    ("family", "model", "expected"),
    [
        ("qwen3", "mine", True),
        ("qwen2", "deepseek-r1", True),
        ("qwen3moe", "qwen3", False),
        ("llama", "deepseek-r1-x", False),
    ],
)
def test_models_whose_past_thinking_is_removed(family: str, model: str, expected: bool) -> None:
    assert removes_past_thinking(family, model) is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<think>\nhm\n\nhm</think>\n\nyes", "yes"),
        ("\n <think></think>yes", "yes"),
        ("<think>a</think>b<think>c</think>d", "b<think>c</think>d"),
        (" yes <think>a</think>", " yes <think>a</think>"),
        ("<think>cut off", ""),
        ("", ""),
    ],
)
def test_past_thinking_is_removed(content: str, expected: str) -> None:
    messages = [Message("user", "q"), Message("assistant", content), Message("user", "q")]
    assert without_past_thinking(messages)[1].content == expected
    assert messages[1].content == content


def test_thinking_stays_after_the_last_user_message_and_in_other_roles() -> None:
    messages = [
        Message("system", "<think>s</think>x"),
        Message("assistant", "<think>a</think>x"),
        Message("user", "<think>u</think>x"),
        Message("assistant", "<think>b</think>x"),
    ]
    assert [message.content for message in without_past_thinking(messages)] == [
        "<think>s</think>x",
        "x",
        "<think>u</think>x",
        "<think>b</think>x",
    ]
    assert without_past_thinking(messages[3:]) == messages[3:]


def test_image_tags_are_numbered_through_the_conversation() -> None:
    messages = [
        Message("user", "text", images=[b"a", b"b"]),
        Message("assistant", "[img]"),
        Message("user", "see [img] and [img]", images=[b"c", b"d", b"e"]),
    ]
    tagged, images = with_image_tags(messages)
    assert [message.content for message in tagged] == [
        "[img-0][img-1]text",
        "[img]",
        "[img-4]see [img-2] and [img-3]",
    ]
    assert images == [b"a", b"b", b"c", b"d", b"e"]
    assert messages[0].content == "text"


def test_image_tags_after_the_text() -> None:
    messages = [Message("user", "see [img]", images=[b"a", b"b"]), Message("user", "", images=[b"c"])]
    tagged, images = with_image_tags(messages, after_text=True)
    assert [message.content for message in tagged] == ["see [img-0][img-1]", "[img-2]"]
    assert images == [b"a", b"b", b"c"]
