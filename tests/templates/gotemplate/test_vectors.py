"""Vectors of Ollama's own template code."""

import re
from datetime import datetime
from typing import Any

import pytest

from ollama_tw.templates.gotemplate import TemplateError, ThinkingTags, parse
from tests.helpers.reference_data import vectors

NOW = datetime(2026, 3, 4, 12, 30)


def parameters(kind: str) -> list[Any]:
    return [pytest.param(case, id=f"{kind}:{case['name']}") for case in vectors(kind)]


def line_in(error: str) -> str:
    match = re.match(r"template: :(\d+)", error)
    assert match is not None, error
    return match.group(1)


def without_addresses(text: str) -> str:
    """Replace the memory addresses that Go prints for messages."""
    return re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", text)


def check(vector: dict[str, Any]) -> None:
    case, expected = vector["case"], vector["expect"]
    inspected = "vars" in expected
    if "error" in expected and not inspected:
        with pytest.raises(TemplateError) as raised:
            parse(case["template"])
        assert raised.value.line == int(line_in(expected["error"]))
        return
    template = parse(case["template"])
    assert sorted(template.traits.identifiers) == expected["vars"]

    def render() -> str:
        return template.render(
            case["messages"],
            tools=case.get("tools"),
            think=case.get("think"),
            prompt=case.get("prompt", ""),
            suffix=case.get("suffix", ""),
            now=NOW,
        )

    if "error" in expected:
        with pytest.raises(TemplateError) as raised:
            render()
        assert line_in(raised.value.message) == line_in(expected["error"])
        assert raised.value.line == int(line_in(expected["error"]))
        return
    assert without_addresses(render()) == without_addresses(expected["output"])
    assert template.traits.tool_tag == expected["tag"]
    assert template.traits.thinking_tags == ThinkingTags(expected.get("open", ""), expected.get("close", ""))


@pytest.mark.parametrize("vector", [*parameters("go_language"), *parameters("go_chat")])
def test_vector(vector: dict[str, Any]) -> None:
    check(vector)
