from datetime import datetime
from typing import Any

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.prompt.think import Think, parse_think, resolve_think
from ollama_tw.templates.gotemplate import parse


@pytest.mark.parametrize(
    ("value", "enabled", "level", "template_level", "template_value"),
    [
        (None, None, "", "", None),
        (True, True, "", "medium", True),
        (False, False, "", "", False),
        ("low", True, "low", "low", "low"),
        ("medium", True, "medium", "medium", "medium"),
        ("high", True, "high", "high", "high"),
        ("max", True, "max", "max", "max"),
    ],
)
def test_values(
    value: Any, enabled: bool | None, level: str, template_level: str, template_value: bool | str | None
) -> None:
    think = parse_think(value)
    assert think == Think(enabled, level)
    assert think.template_value is template_value
    shown = parse("{{ range .Messages }}{{ end }}{{ .ThinkLevel }}").render(
        [], now=datetime(2026, 1, 1), think=think.template_value
    )
    assert shown == template_level


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("xx", 'invalid think value: "xx" (must be "high", "medium", "low", "max", true, or false)'),
        ("", 'invalid think value: "" (must be "high", "medium", "low", "max", true, or false)'),
        ("High", 'invalid think value: "High" (must be "high", "medium", "low", "max", true, or false)'),
        ('a"b', 'invalid think value: "a\\"b" (must be "high", "medium", "low", "max", true, or false)'),
        (-1, "a number of tokens as think must not be negative"),
        (1.0, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        (0.0, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ([], 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ({}, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
    ],
)
def test_invalid_values(value: Any, text: str) -> None:
    with pytest.raises(OllamaError) as caught:
        parse_think(value)
    assert (caught.value.status, caught.value.message) == (400, text)


def test_a_number_is_the_maximum_of_tokens() -> None:
    assert parse_think(512) == Think(True, budget=512)
    assert parse_think(512).template_value is True
    assert parse_think(0) == Think(False)


def test_the_smaller_of_two_limits_counts() -> None:
    assert parse_think(512).limited(-1).budget == 512
    assert parse_think(512).limited(100).budget == 100
    assert Think(True).limited(0).budget == 0
    assert Think(True).limited(-1).budget is None


def test_a_capable_model_thinks_by_default() -> None:
    assert resolve_think(Think(), model="m", capable=True) == Think(True)
    assert resolve_think(Think(False), model="m", capable=True) == Think(False)
    assert resolve_think(Think(True, "max"), model="m", capable=True) == Think(True, "max")


def test_harmony_has_no_max() -> None:
    assert resolve_think(Think(True, "max"), model="m", capable=True, harmony=True) == Think(True, "high")
    assert resolve_think(Think(True, "low"), model="m", capable=True, harmony=True) == Think(True, "low")


def test_a_model_that_cannot_think() -> None:
    assert resolve_think(Think(), model="m", capable=False) == Think()
    assert resolve_think(Think(False), model="m", capable=False) == Think(False)
    for think in (Think(True), Think(True, "low")):
        with pytest.raises(OllamaError) as caught:
            resolve_think(think, model="foo:Latest", capable=False)
        assert (caught.value.status, caught.value.message) == (400, '"foo:Latest" does not support thinking')
