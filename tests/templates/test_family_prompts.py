"""Prompts of the families that Ollama names, against its own renderers, and the layout of their calls."""

from datetime import datetime
from typing import Any

import msgspec
import pytest

from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.templates.capabilities import find_capabilities
from ollama_tw.templates.family_prompts import FAMILIES
from ollama_tw.templates.family_template import family_template
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.templates.reply_description import describe
from ollama_tw.wire.native import Message
from tests.helpers.reference_data import vectors

DIFFERENCES: dict[str, set[tuple[str, str | None]]] = {
    "a model that does not think is not asked to": {("qwen3-vl-instruct", None)},
    "each result is a text, not an object in a list": {
        ("cohere", "tool_round_trip"),
        ("cohere", "parallel_calls"),
    },
    "calls and results are written where Ollama drops them": {
        (name, kind)
        for name in ("olmo3-think", "olmo3-32b-think")
        for kind in ("tool_round_trip", "parallel_calls", "round_trip_answer")
    },
    "every message of the assistant has its mark": {("cogito", "round_trip_answer")},
    "a reply without thinking is written in one way": {("poolside-v1", None), ("qwen3.5", "tool_round_trip")},
    "the order of text and calls is the model's": {
        *((name, "parallel_calls") for name in ("gemma4", "gemma4-large", "gemma4-small")),
        *((name, "parallel_calls") for name in ("lfm2", "lfm2-thinking")),
    },
}
"""Reasons for prompts that differ on purpose, with families and conversations, None for all of them."""


def template_of(name: str) -> str:
    source = family_template(name)
    assert source is not None
    return source


def rendered(name: str, case: dict[str, Any]) -> str:
    messages = msgspec.convert(case["messages"], list[Message], strict=False)
    template = ChatTemplate(template_of(name), bos="", eos="")
    return template.render(messages, tools=case.get("tools"), think=case["think"], now=datetime(2026, 3, 5))


def conversation(name: str, prompt: str) -> str:
    """Return ``prompt`` from the first text of the user on, without white space.

    The system text before it has the list of tools, and sentences of the renderer's own.
    """
    mark = FAMILIES[name].user.open
    return "".join("".join(prompt.partition(mark)[1:]).split())


def differs(vector: dict[str, Any]) -> bool:
    name, kind = vector["name"].split("/")[:2]
    return any({(name, kind), (name, None)} & cases for cases in DIFFERENCES.values())


@pytest.mark.slow
def test_conversations_are_written_as_ollamas_renderers_do() -> None:
    different = set()
    for vector in vectors("renderers"):
        name = vector["case"]["name"]
        wanted = conversation(name, vector["expect"]["output"])
        if conversation(name, rendered(name, vector["case"])) != wanted and not differs(vector):
            different.add("/".join(vector["name"].split("/")[:3]))
    assert different == set()


@pytest.mark.parametrize("name", FAMILIES)
def test_calls_are_written_in_the_layout_in_which_they_are_read(name: str) -> None:
    found, known = describe(template_of(name)), BY_NAME[FAMILIES[name].parser]
    assert find_capabilities(template_of(name)).thinking == (known.thinking is not None)
    if known.calls is None:
        return
    assert found.calls is not None
    assert (found.calls.shape, found.calls.notation) == (known.calls.shape, known.calls.notation)
    assert found.calls.opening.split()[0].startswith(known.calls.opening.split()[0])


def test_every_renderer_has_the_tools_in_its_prompt() -> None:
    for vector in vectors("renderers"):
        for tool in vector["case"].get("tools") or []:
            prompt = rendered(vector["case"]["name"], vector["case"])
            assert f'"name": "{tool["function"]["name"]}"' in prompt
