"""Prompts of model families, against what llama.cpp and Hugging Face's library render."""

from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import pytest

from ollama_tw.templates.capabilities import find_capabilities
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.wire.native import Message
from tests.helpers.reference_data import chat_templates, vectors

DIFFERENCES = {
    "fireworks-ai-llama-3-firefunction-v2": (
        "tools",
        "llama.cpp leaves `functions` undefined: the model does not see its tools; here they are JSON",
    ),
}
"""Deliberate differences by template: which conversations (those with tools), and the reason."""

CAPABILITY_DIFFERENCES = {
    ("LFM2.5-Instruct", "after_generation_prompt"): (
        {"on": "none", "off": "none"},
        "a model that thinks has a state: its prompt does not touch thinking",
    ),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "parallel_calls"): (
        True,
        "calls are shown if the content beside them is null, as it is given here",
    ),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "shows_calls_of_history"): (
        True,
        "calls are shown if the content beside them is null, as it is given here",
    ),
    ("deepseek-ai-DeepSeek-V4-Flash-0731", "levels"): (
        ("reasoning_effort",),
        "the levels high and max are read, if thinking is on",
    ),
    ("deepseek-ai-DeepSeek-V4-Flash-0731", "history_switches"): (
        ("drop_thinking",),
        "earlier thinking is kept if it is false, if thinking is on",
    ),
    ("fireworks-ai-llama-3-firefunction-v2", "shows_tools"): (
        True,
        "the tools are shown, given as `functions`",
    ),
    ("mistralai-Ministral-3-14B-Reasoning-2512", "typed_content"): (
        True,
        "a list of parts is rendered as its text is",
    ),
}
"""Deliberate differences of capabilities: the value here, and the reason."""

PROMPTS = vectors("chat_prompts")


@lru_cache(maxsize=64)
def template_of(name: str, bos: str, eos: str) -> ChatTemplate:
    return ChatTemplate(chat_templates()[name], bos=bos, eos=eos)


def rendered(case: dict[str, Any]) -> str:
    messages = msgspec.convert(case["messages"], list[Message], strict=False)
    template = template_of(case["template"], case["bos"], case["eos"])
    now = datetime.fromisoformat(case["now"])
    return template.render(messages, tools=case["tools"], think=case["think"], now=now)


def differs(case: dict[str, Any]) -> bool:
    kind, _ = DIFFERENCES.get(case["template"], ("", ""))
    return kind == "tools" and bool(case["tools"])


@pytest.mark.parametrize("vector", [v for v in PROMPTS if not differs(v["case"])], ids=lambda v: v["name"])
def test_prompts(vector: dict[str, Any]) -> None:
    expect = vector["expect"]
    assert rendered(vector["case"]) in (expect["prompt"], *expect.get("also", ()))


def test_deliberate_differences_differ() -> None:
    for vector in PROMPTS:
        if differs(vector["case"]):
            assert rendered(vector["case"]) != vector["expect"]["prompt"]


def test_firefunction_gets_its_tools_as_json() -> None:
    template = template_of("fireworks-ai-llama-3-firefunction-v2", "<s>", "</s>")
    tool = {"type": "function", "function": {"name": "ping", "parameters": {}}}
    text = template.render([Message("user", "hi")], tools=[tool], now=datetime(2026, 3, 5))
    assert 'JSON spec:\n[\n    {\n        "type": "function",\n        "function": {' in text
    assert "Today is Mar 05 2026." in text


@pytest.mark.parametrize("row", vectors("capabilities"), ids=lambda row: row["template"])
def test_capabilities(row: dict[str, Any]) -> None:
    name = row["template"]
    found = asdict(find_capabilities(chat_templates()[name]))
    states = found["after_generation_prompt"]
    found["after_generation_prompt"] = {} if states is None else dict(zip(("on", "off"), states, strict=True))
    for key, expected in row["expect"].items():
        value = tuple(sorted(found[key])) if isinstance(found[key], tuple) else found[key]
        if (name, key) in CAPABILITY_DIFFERENCES:
            assert value == CAPABILITY_DIFFERENCES[name, key][0], key
        elif expected is not None:
            assert value == (tuple(sorted(expected)) if isinstance(expected, list) else expected), key
