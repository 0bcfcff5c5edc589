import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.output.python_notation import parse_calls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", []),
        ("now()", [("now", {})]),
        (" [ now ( ) , a.b-c(x = 1,) ] ", [("now", {}), ("a.b-c", {"x": 1})]),
        ("f()\ng(); h()", [("f", {}), ("g", {}), ("h", {})]),
        (
            "f(s='it\\'s', t=\"a\\n\\u00e9\\x41\\q\", n=-1, r=2.5e3, b=True, c=false, d=None)",
            [
                (
                    "f",
                    {
                        "s": "it's",
                        "t": "a\né" + "A\\q",
                        "n": -1,
                        "r": 2500.0,
                        "b": True,
                        "c": False,
                        "d": None,
                    },
                )
            ],
        ),
        (
            "f(l=[1, [], {'a': {\"b\": null}}], o={'x)]': '(',})",
            [("f", {"l": [1, [], {"a": {"b": None}}], "o": {"x)]": "("}})],
        ),
    ],
)
def test_calls_are_read_with_their_values(text: str, expected: list[tuple[str, dict[str, Any]]]) -> None:
    assert parse_calls(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "f",
            "f(",
            "f(1)",
            "f(a)",
            "f(a=)",
            "f(a=b)",
            "f(a=g())",
            "f() and more",
            "[f()] g()",
            "f(a=1 b=2)",
        ),
        *(
            "f(a={1: 2})",
            "f(a='open)",
            "f(a=1e999)",
            "f(a=01)",
            "f(a=" + "[" * 5000,
            "f(a=" + "-" * 5000 + "1)",
        ),
    ],
)
def test_any_other_text_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_calls(text)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]\w{0,5}", fullmatch=True),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_json_values_come_back_as_they_were(arguments: dict[str, Any]) -> None:
    text = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
    assert parse_calls(f"[f({text})]") == [("f", arguments)]
