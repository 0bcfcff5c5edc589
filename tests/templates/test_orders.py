"""Conversations that templates with a strict order get in another one."""

from datetime import datetime

import pytest

from ollama_tw.templates.budget import TemplateRefusal
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.templates.orders import other_orders
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction
from tests.templates.sources import ALTERNATING, ALTERNATING_AFTER_SYSTEM, SYSTEM_FIRST

NOW = datetime(2026, 3, 9)
TEMPLATES = {"alternating": ALTERNATING, "system first": SYSTEM_FIRST, "both": ALTERNATING_AFTER_SYSTEM}


def render(source: str, messages: list[Message]) -> str:
    return ChatTemplate(source, bos="", eos="").render(messages, now=NOW)


def system(text: str) -> Message:
    return Message("system", text)


def user(text: str) -> Message:
    return Message("user", text)


def model(text: str = "", *calls: str, thinking: str = "") -> Message:
    made = [ToolCall(function=ToolCallFunction(name=name)) for name in calls]
    return Message("assistant", text, tool_calls=made, thinking=thinking)


CALLED = [user("a"), model("", "f"), Message("tool", "r")]


@pytest.mark.parametrize(
    ("messages", "alternating", "system_first", "both"),
    [
        ([system("s"), user("a"), model("b"), user("c")], "[s:s][u:a][a:b][u:c]", None, None),
        ([user("a"), user("b")], "[u:a\n\nb]", "[u:a][u:b]", "[u:a\n\nb]"),
        ([user("a"), model("b"), model("c")], "[u:a][a:b\n\nc]", "[u:a][a:b][a:c]", "[u:a][a:b\n\nc]"),
        # Two of a client's instructions, and two texts of the user, as Codex begins.
        (
            [Message("developer", "s"), Message("developer", "t"), user("a"), user("b")],
            "[s:s\n\nt][u:a\n\nb]", "[s:s\n\nt][u:a][u:b]", "[s:s\n\nt][u:a\n\nb]",
        ),
        ([system("s"), user("a"), user("b")], "[s:s][u:a\n\nb]", "[s:s][u:a][u:b]", "[s:s][u:a\n\nb]"),
        # A system text within the conversation.
        (
            [system("s"), user("a"), model("b"), system("t"), user("c")],
            "[s:s][u:a][a:b][s:t][u:c]", "[s:s\n\nt][u:a][a:b][u:c]", "[s:s\n\nt][u:a][a:b][u:c]",
        ),
        # What the user says beside the results of calls.
        (
            [*CALLED, user("c")],
            "[u:a][a:!f][t:r\n\nc]", "[u:a][a:!f][t:r][u:c]", "[u:a][a:!f][t:r\n\nc]",
        ),
        ([user("a"), model("b"), model("", "f")], "[u:a][a:b][a:!f]", "[u:a][a:b][a:!f]", "[u:a][a:b][a:!f]"),
    ],
)  # fmt: skip
def test_orders(
    messages: list[Message], alternating: str, system_first: str | None, both: str | None
) -> None:
    assert render(ALTERNATING, messages) == alternating
    assert render(SYSTEM_FIRST, messages) == (system_first or alternating)
    assert render(ALTERNATING_AFTER_SYSTEM, messages) == (both or alternating)


def test_a_later_system_text_becomes_the_users_after_it_was_tried_at_the_beginning() -> None:
    orders = list(other_orders([user("a"), model("b"), system("s")]))
    assert orders == [
        [system("s"), user("a"), model("b")],
        [user("a"), model("b"), user("s")],
    ]


def test_joined_messages_keep_their_calls_and_thinking() -> None:
    source = ALTERNATING.replace("{{ m.content }}", "{{ m.reasoning_content }}/{{ m.content }}")
    messages = [user("a"), model("b", thinking="x"), model("c", thinking="y")]
    assert render(source, messages) == "[u:/a][a:x\n\ny/b\n\nc]"


@pytest.mark.parametrize("name", ["alternating", "both"])
def test_what_a_template_refuses_in_every_order_is_an_error_of_the_request(name: str) -> None:
    with pytest.raises(TemplateRefusal, match=r"^roles must alternate$") as caught:
        render(TEMPLATES[name], [model("a"), user("b")])
    assert caught.value.status == 400
