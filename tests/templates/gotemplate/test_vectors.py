"""Vectors of Ollama's own template code: a selection in the repository, all if OLLAMA_TW_SHARED is set."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.templates.gotemplate import TemplateError, ThinkingTags, parse
from tests.helpers import ROOT
from tests.helpers.real_models import vectors_file

SELECTION = ROOT / "tests/templates/data/go_vectors.jsonl"
NOW = datetime(2026, 3, 4, 12, 30)


def load(path: Path) -> list[Any]:
    if not path.exists():
        reason = f"{path.name} is missing: set OLLAMA_TW_SHARED to the folder that contains data/vectors"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id=path.stem)]
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [pytest.param(row, id=f"{path.stem}:{row['name']}") for row in rows]


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


@pytest.mark.parametrize("vector", load(SELECTION))
def test_selected_vector(vector: dict[str, Any]) -> None:
    check(vector)


@pytest.mark.parametrize("vector", load(vectors_file("go_language")) + load(vectors_file("go_chat")))
def test_vector(vector: dict[str, Any]) -> None:
    check(vector)
