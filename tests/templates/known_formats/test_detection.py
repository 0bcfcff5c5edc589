"""Detection of chat templates in the published formats, with unchanged output."""

from collections.abc import Callable
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.templates import gotemplate
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.templates.known_formats import NamedTemplate, detect
from ollama_tw.wire.native import Message
from tests.templates import sources as templates
from tests.templates.known_formats.published import CHATML, LLAMA2, MISTRAL, PUBLISHED, ZEPHYR, by_role

NOW = datetime(2026, 5, 6)

STOPS = {
    "alfred": "<start_system> <end_message> <start_user> <start_assistant>",
    "chatml": "<|im_start|> <|im_end|>",
    "chatqa": "System: User: Assistant: <|begin_of_text|>",
    "codellama-70b-instruct": "Source: Destination: <step>",
    "command-r": "<|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|>",
    "falcon-instruct": "User: Assistant:",
    "gemma-instruct": "<start_of_turn> <end_of_turn>",
    "gemma3-instruct": "<end_of_turn>",
    "granite-instruct": "System: Question: Answer:",
    "llama2-chat": "[INST] [/INST] <<SYS>> <</SYS>>",
    "llama3-instruct": "<|start_header_id|> <|end_header_id|> <|eot_id|>",
    "mistral-instruct": "<|im_start|> <|im_end|>",
    "openchat": "<|end_of_turn|>",
    "phi-3": "<|end|> <|system|> <|user|> <|assistant|>",
    "zephyr": "<|system|> </s> <|user|> <|assistant|>",
    "vicuna": "USER: ASSISTANT:",
}


ONE_TURN = "{% if messages | length > 1 %}{{ raise_exception('one message') }}{% endif %}"


def found(jinja: str, *, bos: str | None = None, eos: str | None = None) -> NamedTemplate:
    named = detect(jinja, bos=bos, eos=eos)
    assert named is not None
    return named


def written(named: NamedTemplate, *messages: tuple[str, str]) -> str:
    return gotemplate.parse(named.template).render([Message(*message) for message in messages], now=NOW)


@pytest.mark.parametrize(("name", "jinja", "prompt"), PUBLISHED)
def test_published_formats(name: str, jinja: str, prompt: str) -> None:
    named = found(jinja)
    assert named.name == name
    chat = (("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "Q"))
    assert written(named, *chat) == prompt
    if name in STOPS:
        assert named.stop == tuple(STOPS[name].split())


def test_stops_with_blanks() -> None:
    stops = {name: found(jinja).stop for name, jinja, _ in PUBLISHED}
    assert stops["alpaca"] == ("### Instruction:", "### Response")
    assert stops["magicoder"] == ("@@ Instruction", "@@ Response")
    assert stops["solar-instruct"] == ("### System:", "### User:", "### Assistant")
    assert stops["starcoder2-instruct"] == ("### Instruction", "### Response", "<|endoftext|>")


def test_a_default_system_message_is_kept() -> None:
    named = found(templates.SMOLLM2)
    default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert written(named, ("user", "U")) == (
        f"<|im_start|>system\n{default}<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )
    assert default not in written(named, ("system", "S"), ("user", "U"))


def test_a_default_that_any_system_message_replaces() -> None:
    jinja = (
        "{% set all = messages | map(attribute='role') | list %}{% if 'system' not in all %}"
        "You answer.{{ '\\n\\n' }}{% endif %}"
    ) + by_role("%\n\n", "### Instruction:\n%\n\n", "### Response:\n%\n\n", "### Response:\n")
    named = found(jinja)
    assert named.name == "alpaca"
    assert written(named, ("user", "U")) == "You answer.\n\n### Instruction:\nU\n\n### Response:\n"
    late = (("user", "U"), ("assistant", "A"), ("system", "S"), ("user", "Q"))
    assert written(named, *late).startswith("### Instruction:\nU\n\n")


def test_a_reply_that_has_begun_is_left_open() -> None:
    begun = (("user", "U"), ("assistant", "A"))
    assert written(found(CHATML), *begun) == "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA"
    assert written(found(MISTRAL), *begun) == "[INST] U [/INST]A"


def test_the_tokens_of_the_model() -> None:
    named = found(ZEPHYR, eos="<|endoftext|>")
    chat = (("user", "U"), ("assistant", "A"), ("user", "Q"))
    assert written(named, *chat) == (
        "<|user|>\nU<|endoftext|>\n<|assistant|>\nA<|endoftext|>\n<|user|>\nQ<|endoftext|>\n<|assistant|>\n"
    )
    named = found(LLAMA2, bos="<B>", eos="<E>")
    assert written(named, *chat) == "[INST] U [/INST] A <E><B>[INST] Q [/INST]"
    assert detect(ZEPHYR, eos="{{ . }}") is None


@pytest.mark.parametrize(
    "jinja",
    [
        pytest.param(templates.QWEN3, id="tools and thinking"),
        pytest.param(templates.LLAMA, id="tools"),
        pytest.param(CHATML + "{{ messages[0].reasoning_content }}", id="reasoning"),
        pytest.param(CHATML.replace("user", "human").replace("m.role", "m.role|upper"), id="other roles"),
        pytest.param(CHATML.replace("<|im_end|>\\n", "<|im_end|>"), id="a newline less"),
        pytest.param(CHATML + "{{ ' ' }}", id="a blank more"),
        pytest.param("{{ date_string }}\n" + CHATML, id="a date"),
        pytest.param("{{ strftime_now('%d') }}\n" + CHATML, id="a day"),
        pytest.param("{{ '{{ .System }}' }}" + CHATML, id="braces in its preamble"),
        pytest.param(CHATML.replace("m.content ~", "m.content | upper ~"), id="changes texts"),
        pytest.param(CHATML.replace("m.content ~", "m.content | replace('\\n', ' ') ~"), id="joins lines"),
        pytest.param(CHATML.replace("m.content ~", "m.content | e ~"), id="escapes texts"),
        pytest.param(CHATML.replace("messages %}", "messages[-1:] %}"), id="forgets"),
        pytest.param(ONE_TURN + CHATML, id="one turn"),
        pytest.param(templates.CONTENT_PARTS, id="unknown format"),
    ],
)  # fmt: skip
def test_templates_that_keep_their_own(jinja: str) -> None:
    assert detect(jinja) is None


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "jinja",
    [
        "",
        "{% for",
        "{{ 1 / 0 }}",
        "{{ raise_exception('no') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ 'x' * 8000000 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{{" + "(" * 2900 + "1" + ")" * 2900 + "}}",
        "{% if a %}" * 300 + "{% endif %}" * 300,
        CHATML + " " * 10_000,
        ENDLESS,
        "{% if messages | length > 1 %}" + ENDLESS + "{% endif %}" + CHATML,
        "\ud800" + CHATML,
    ],
)
def test_hostile_templates(jinja: str) -> None:
    assert detect(jinja) is None


def ticking(step: float) -> Callable[[], float]:
    """Return a clock that advances by ``step`` seconds at each reading."""
    seconds = -step

    def clock() -> float:
        nonlocal seconds
        seconds += step
        return seconds

    return clock


def test_the_time_of_all_renderings_is_limited_together() -> None:
    looks = 0
    clock = ticking(0.001)

    def counted() -> float:
        nonlocal looks
        looks += 1
        return clock()

    assert detect("{% for a in range(99999) %}{% endfor %}", clock=counted) is None
    assert looks < 110
    # The limit of a single rendering is fifty times as long.
    assert detect(CHATML, clock=ticking(0.001)) is not None


ALTERNATES = [jinja for name, jinja, _ in PUBLISHED if name != "chatqa"]
# No text begins or ends with a blank: many of the templates strip contents.
TEXTS = st.text(st.sampled_from("ab \n<|>{}'\"&é"), min_size=1, max_size=8).filter(
    lambda text: text == text.strip()
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALTERNATES), st.none() | TEXTS, st.lists(TEXTS, min_size=1, max_size=5))
def test_detected_templates_write_the_same_prompts(jinja: str, system: str | None, texts: list[str]) -> None:
    turns = texts if len(texts) % 2 else texts[1:]
    messages = [Message("system", system)] if system is not None else []
    messages += [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(turns)]
    named = found(jinja, bos="<s>", eos="</s>")
    own = ChatTemplate(jinja, bos="<s>", eos="</s>").render(messages, now=NOW)
    assert gotemplate.parse(named.template).render(messages, now=NOW) == own.removeprefix("<s>")
