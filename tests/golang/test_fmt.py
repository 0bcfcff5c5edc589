"""Values as Go's ``fmt`` prints them."""

import pytest

from ollama_tw.golang.fmt import format_literal, format_value, human_number


def test_values_as_fmt_prints_them() -> None:
    assert format_value([1.0, "a b", True]) == "[1 a b true]"
    assert format_value({"b": 1, "a": None}) == "map[a:<nil> b:1]"
    assert format_value(1_000_000) == "1e+06"
    assert format_literal('say "hi"\n') == r'"say \"hi\"\n"'
    assert format_literal(False) == "false"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (8_030_261_248, "8.0B"), (7_000_000_000, "7B"), (22_565_376, "22.57M"), (135_000_000, "135M"),
        (1_500, "2K"), (999, "999"), (0, "0"),
    ],
)  # fmt: skip
def test_parameter_sizes(count: int, text: str) -> None:
    assert human_number(count) == text
