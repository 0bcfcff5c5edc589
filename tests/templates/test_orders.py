"""Conversations that templates with a strict order get in another one."""

from datetime import datetime

import pytest

from ollama_tw.templates.budget import TemplateRefusal
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction

NOW = datetime(2026, 3, 9)
WRITE = (
    "[{{ m.role[0] }}:{{ m.content }}{% for c in m.tool_calls %}!{{ c.function.name }}{% endfor %}]"
    "{% endfor %}"
)
ALTERNATING = (
    "{% set ns = namespace(n=0) %}{% for m in messages %}"
    "{% if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}"
    "{% if (m.role == 'user') != (ns.n % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% set ns.n = ns.n + 1 %}{% endif %}"
) + WRITE
SYSTEM_FIRST = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('System message must be at the beginning.') }}{% endif %}"
) + WRITE
BOTH = ALTERNATING.replace(
    "{% for m in messages %}",
    "{% for m in messages %}{{ raise_exception('no') if m.role == 'system' and not loop.first }}",
)
TEMPLATES = {"alternating": ALTERNATING, "system first": SYSTEM_FIRST, "both": BOTH}


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
    assert render(BOTH, messages) == (both or alternating)


def test_a_system_text_is_the_users_where_no_system_message_is_possible_but_the_first() -> None:
    source = (
        "{% for m in messages %}{{ raise_exception('no') if loop.index > 1 and m.role == 'system' }}" + WRITE
    )
    only_later = "{{ raise_exception('no') if messages[0].role == 'system' }}" + source
    assert render(only_later, [user("a"), system("s")]) == "[u:a][u:s]"


def test_joined_messages_keep_their_calls_and_thinking() -> None:
    source = ALTERNATING.replace("{{ m.content }}", "{{ m.reasoning_content }}/{{ m.content }}")
    messages = [user("a"), model("b", thinking="x"), model("c", thinking="y")]
    assert render(source, messages) == "[u:/a][a:x\n\ny/b\n\nc]"


@pytest.mark.parametrize("name", ["alternating", "both"])
def test_what_a_template_refuses_in_every_order_is_an_error_of_the_request(name: str) -> None:
    with pytest.raises(TemplateRefusal, match=r"^roles must alternate$") as caught:
        render(TEMPLATES[name], [model("a"), user("b")])
    assert caught.value.status == 400
