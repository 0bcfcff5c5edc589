"""Shapes of messages that templates read, beyond those of the families' vectors."""

from datetime import datetime
from typing import Any

import pytest

from ollama_tw.templates.capabilities import find_capabilities
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.templates.shapes import find_shape
from ollama_tw.templates.template_messages import MessageShape
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction

NOW = datetime(2026, 3, 9)
ASK = Message("user", "ask")


def template(body: str) -> str:
    return "{% for m in messages %}[{{ m.role }}]" + body + "{% endfor %}"


def render(source: str, *messages: Message, **options: Any) -> str:
    return ChatTemplate(source, bos="", eos="").render([ASK, *messages], now=NOW, **options)


def calling(text: str = "", *, thinking: str = "", **arguments: Any) -> Message:
    call = ToolCall(id="call_0123456789", function=ToolCallFunction(name="f", arguments=arguments))
    return Message("assistant", text, thinking=thinking, tool_calls=[call])


def result(text: str, name: str = "") -> Message:
    return Message("tool", text, tool_name=name, tool_call_id="call_0123456789")


CALLS = "{% for c in m.tool_calls or [] %}({{ c.function.name }} {{ ARGUMENTS }}){% endfor %}"
FOLDED = template(
    "{{ m.content }}"
    + CALLS.replace("ARGUMENTS", "c.function.arguments.x")
    + "{% for r in m.tool_responses or [] %}={{ r.name }} {{ r.response | tojson }}{% endfor %}"
)


def test_results_are_folded_where_only_the_turn_of_the_model_has_a_place_for_them() -> None:
    assert render(FOLDED, calling(x=1), result('{"t": 2}'), Message("assistant", "done"), ASK) == (
        '[user]ask[assistant]done(f 1)=f {"t": 2}[user]ask'
    )
    assert render(FOLDED, calling("wait", x=1), result("warm")) == (
        '[user]ask[assistant]wait[assistant](f 1)=f "warm"'
    )


def test_a_result_that_is_nested_too_deeply_is_text() -> None:
    nested = "[" * 100_000
    assert render(FOLDED, calling(x=1), result(nested)) == f'[user]ask[assistant](f 1)=f "{nested}"'


def test_results_are_messages_where_the_template_knows_their_role() -> None:
    source = FOLDED.replace("{{ m.content }}", "{{ '<' if m.role == 'tool' }}{{ m.content }}")
    assert render(source, calling(x=1), result("warm")) == "[user]ask[assistant](f 1)[tool]<warm"


def test_a_result_has_the_name_of_its_call() -> None:
    source = template("{{ m.name }}{{ m.content }}" + CALLS.replace("ARGUMENTS", "1"))
    assert render(source, calling(x=1), result("warm")) == "[user]ask[assistant](f 1)[tool]fwarm"
    assert render(source, calling(x=1), result("warm", "g")).endswith("[tool]gwarm")


def test_arguments_are_text_for_templates_that_take_nothing_else() -> None:
    refusal = "raise_exception('text') if c.function.arguments is not string else c.function.arguments"
    source = template("{{ m.content }}" + CALLS.replace("ARGUMENTS", refusal))
    assert render(source, calling(x=[1])) == '[user]ask[assistant](f {"x": [1]})'


def test_ids_are_made_for_templates_that_require_them_and_others_are_kept() -> None:
    source = template("{{ m.content }}" + CALLS.replace("ARGUMENTS", "1 ~ ' ' + c['id']"))
    message = calling(x=1)
    assert render(source, message) == "[user]ask[assistant](f 1 call_0123456789)"
    assert isinstance(message.tool_calls, list)
    message.tool_calls[0].id = ""
    assert render(source, message) == "[user]ask[assistant](f 1 000000000)"


def test_thinking_is_a_block_of_the_content_where_no_key_is_read() -> None:
    source = template(
        "{% if m.content is string %}{{ m.content }}{% else %}{% for b in m.content %}"
        "{% if b.type == 'thinking' %}<{{ b.thinking }}>{% else %}{{ b.text }}{% endif %}{% endfor %}"
        "{% endif %}"
    )
    assert render(source, Message("assistant", "a", thinking="hm")) == "[user]ask[assistant]<hm>a"


def test_a_template_that_prints_content_as_it_is_gets_no_blocks() -> None:
    source = template("{{ m.content }}{# thinking #}")
    assert render(source, Message("assistant", "a", thinking="hm")) == "[user]ask[assistant]a"


def test_thinking_is_given_once_to_a_template_that_prints_every_key() -> None:
    source = template("{{ m.content }}<{{ m.reasoning_content }}{{ m.thinking }}>")
    assert render(source, Message("assistant", "a", thinking="hm")) == "[user]ask<>[assistant]a<hm>"


def test_developer_is_system() -> None:
    assert render(template("{{ m.content }}"), Message("developer", "s")) == "[user]ask[system]s"


CHAT = template("{{ m.content }}") + "{% if add_generation_prompt %}[assistant]{% endif %}"

NO_THINK = (
    "{% set e = reasoning_effort | default('no_think') %}"
    "{{ e if e in ['no_think', 'high'] else raise_exception(e) }}"
)
EFFORT = (
    "{% set e = thinking_effort | default('max') %}"
    "{{ e if e in ['low', 'high', 'max'] else raise_exception(e) }}"
)


@pytest.mark.parametrize(
    ("ending", "think", "expected"),
    [
        ("{% if thinking_mode != 'off' %}<think>{% endif %}", False, ""),
        ("{% if thinking_mode != 'off' %}<think>{% endif %}", True, "<think>"),
        ("{% if thinking_mode == 'disabled' %}</think>{% endif %}", False, "</think>"),
        ("{% if thinking_mode == 'disabled' %}</think>{% endif %}", True, ""),
        ("{% if thinking_budget == 0 %}</think>{% endif %}", False, "</think>"),
        ("{{ reasoning_effort | default('medium') }}", "low", "low"),
        ("{{ reasoning_effort | default('medium') }}", "max", "high"),
        ("{{ reasoning_effort | default('medium') }}", True, "medium"),
        ("{{ reasoning_effort | default('medium') }}", False, "medium"),
        (NO_THINK, True, "high"),
        (NO_THINK, False, "no_think"),
        (EFFORT, "medium", "high"),
        (EFFORT, "minimal", "low"),
    ],
)
def test_the_words_of_thinking_are_those_of_the_family(ending: str, think: bool | str, expected: str) -> None:
    assert render(CHAT + ending, think=think) == "[user]ask[assistant]" + expected


HOSTILE = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{% set a = ['x'] %}{% for i in range(70) %}{% set _ = a.extend(a) %}{% endfor %}",
    "{{ 'x' * 16000000 }}{{ messages }}{{ tools }}",
    "{{ raise_exception('no') }}",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_a_template_that_refuses_every_trial_has_the_common_shape(source: str) -> None:
    assert find_shape(source + "{# reasoning_content tool_responses thinking #}") == MessageShape(
        system_role=False
    )
    assert not find_capabilities(source).shows_tools
