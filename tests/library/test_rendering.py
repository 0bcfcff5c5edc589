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
JINJA_ROUND_TRIP = (
    "{{ tools }}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% for call in m.tool_calls %}<call>{{ call.function | tojson }}</call>{% endfor %}{% endfor %}"
)
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
        (PLAIN, "{{ messages[0].content.split('</think>')[-1] }}", False),
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


def test_a_renderer_without_a_chat_template_is_its_familys() -> None:
    config = ModelConfig(renderer="gemma4", parser="gemma4")
    for template in (None, "{{ .Prompt }}"):
        assert choose(template, None, config=config) == Rendering(PromptPath.NATIVE, False, False, "gemma4")
    assert choose(TOOLS, None, config=config).family == ""
    assert choose(None, None, config=ModelConfig(renderer="unheard-of")).family == ""


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


CALLS = "{% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}"


def template(message: str, before: str = "") -> str:
    """Return a template that renders each message ``m`` in turns."""
    return before + "{% for m in messages %}<" + "{{ m.role }}>" + message + "<end>{% endfor %}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (template("{{ m.content }}"), set()),
        (template("{{ m.content }}", "{% if tools %}{{ tools | tojson }}{% endif %}"), {"tools"}),
        (template("{{ m.content }}" + CALLS), {"tools"}),
        (template("{{ m.content }}", "{# no tools, no <think> #}"), set()),
        (template("{{ m.content.split('</think>')[-1] }}"), {"thinking"}),
        (template("<hmm>{{ m.reasoning_content }}</hmm>{{ m.content }}"), {"thinking"}),
        (template("{{ m.reasoning_content }}{% if tools"), set()),
        ("", set()),
        (None, set()),
    ],
)
def test_capabilities(source: str | None, expected: set[str]) -> None:
    assert jinja_capabilities(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (template("{{ m.content }}" + CALLS), True),
        (template("{% if m.role != 'tool' %}{{ m.content }}{% endif %}" + CALLS), False),
        (template("{{ m.content }}", "{{ tools }}"), False),
    ],
)
def test_tool_round_trip(source: str, expected: bool) -> None:
    assert jinja_has_tool_round_trip(source) is expected
