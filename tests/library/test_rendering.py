"""Choice between Go and Jinja templates."""

import pytest

from ollama_tw.library.manifests import ModelConfig
from ollama_tw.library.rendering import (
    PromptPath,
    Rendering,
    choose_rendering,
    jinja_capabilities,
    jinja_has_tool_round_trip,
)
from ollama_tw.templates.gotemplate import template_traits

PLAIN = "{{ range .Messages }}{{ .Content }}{{ end }}"
TOOLS = PLAIN + "{{ .Tools }}"
ROUND_TRIP = TOOLS + '{{ .ToolCalls }}{{ if eq .Role "tool" }}{{ end }}'
JINJA_TOOLS = "{{ tools }}"
JINJA_ROUND_TRIP = "{{ tools }}{{ message.tool_calls }}{% if message['role'] == 'tool' %}"
JINJA_THINKING = "{{ tools }}<think></think>"


def choose(
    go: str | None, jinja: str | None, setting: bool | None = None, config: ModelConfig | None = None
) -> Rendering:
    return choose_rendering(
        config or ModelConfig(),
        go_template=go,
        traits=template_traits(go or "{{ .Prompt }}"),
        chat_template=jinja,
        go_template_setting=setting,
    )


@pytest.mark.parametrize(
    ("go", "jinja", "in_use"),
    [
        (PLAIN, None, True),
        (None, "{{ x }}", False),
        (None, None, False),
        (PLAIN, "{{ x }}", True),
        (PLAIN, JINJA_TOOLS, False),
        (TOOLS, JINJA_TOOLS, True),
        (TOOLS, JINJA_ROUND_TRIP, False),
        (ROUND_TRIP, JINJA_ROUND_TRIP, True),
        (ROUND_TRIP, JINJA_THINKING, True),
        (ROUND_TRIP, JINJA_ROUND_TRIP + "<think></think>", False),
        (TOOLS + "{{ .Suffix }}", JINJA_ROUND_TRIP, True),
        (PLAIN, "{{ content.split('</think>') }}", False),
        (PLAIN, "{{ content.split('</think>') }}{{ reasoning_content }}", True),
    ],
)
def test_the_better_template_is_used(go: str | None, jinja: str | None, in_use: bool) -> None:
    path = PromptPath.RENDERED if in_use else PromptPath.NATIVE
    assert choose(go, jinja) == Rendering(path, in_use, harmony=False)


def test_the_setting_takes_precedence() -> None:
    assert choose(PLAIN, JINJA_TOOLS, True).go_template_in_use
    assert choose(PLAIN, None, False) == Rendering(PromptPath.NATIVE, False, False)
    assert not choose(None, None, True).go_template_in_use


def test_the_chat_template_takes_the_place_of_a_renderer() -> None:
    config = ModelConfig(renderer="gemma4", parser="gemma4")
    assert choose("{{ .Prompt }}", JINJA_TOOLS, config=config) == Rendering(PromptPath.NATIVE, False, False)
    assert choose(ROUND_TRIP, JINJA_TOOLS, True, config).go_template_in_use
    assert choose(ROUND_TRIP, None, config=config).go_template_in_use


def test_special_models_are_always_rendered() -> None:
    for config in (
        ModelConfig(parser="x"),
        ModelConfig(model_format="safetensors"),
    ):
        assert choose(None, JINJA_TOOLS, config=config).path is PromptPath.RENDERED
    assert choose(PLAIN, JINJA_TOOLS, config=ModelConfig(parser="x")).go_template_in_use


def test_harmony() -> None:
    config = ModelConfig(model_family="gptoss")
    assert choose("<|start|>{{ .Content }}<|end|>", JINJA_TOOLS, config=config) == Rendering(
        PromptPath.RENDERED, True, harmony=True
    )
    assert not choose(PLAIN, JINJA_TOOLS, config=config).harmony


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ messages }}", set()),
        ("{% if tools %}", {"tools"}),
        ("message.tool_call", {"tools"}),
        ("<think> </think>", {"thinking"}),
        ("</think>", set()),
        ("content.split('</think>')", {"thinking"}),
        ('content.split("</think>")', {"thinking"}),
        ("content.split('</think>') reasoning_content", set()),
        ("content.split('</think>') <SPECIAL_12>", set()),
        ("<think>content.split('</think>') reasoning_content", {"thinking"}),
    ],
)
def test_capabilities(source: str, expected: set[str]) -> None:
    assert jinja_capabilities(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("tools tool_calls message.role == 'tool'", True),
        ('tools tool_calls message["role"] == "tool"', True),
        ("tools tool_calls message['role'] == 'tool'", True),
        ("tools assistant_tool_call ipython", True),
        ("tool_calls tool_response", True),
        ("tool_calls", False),
        ("tools tool_response", False),
        ("message.role == 'tool'", False),
    ],
)
def test_tool_round_trip(source: str, expected: bool) -> None:
    assert jinja_has_tool_round_trip(source) is expected
