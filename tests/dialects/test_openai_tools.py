from typing import Any

import pytest

from ollama_tw.dialects.openai.tools import checked_tools, chosen_tools, ignored_kinds
from ollama_tw.errors import OllamaError

F: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
G: dict[str, Any] = {"type": "function", "function": {"name": "g"}}


def test_tools_that_are_not_functions_are_left_out() -> None:
    hosted: list[Any] = [{"type": "web_search"}, {"type": "file_search", "vector_store_ids": []}]
    assert checked_tools([hosted[0], F, hosted[1]]) == [F]
    assert ignored_kinds([*hosted, F, hosted[0]]) == ["web_search", "file_search"]
    tools: list[Any] = [{"type": "function"}, {"function": {}}, {}, 7, {"type": 7}]
    for tool in tools:
        assert ignored_kinds([tool]) == []
        with pytest.raises(OllamaError, match=r'"tools\[1\]\.function" must be an object with a name'):
            checked_tools([F, tool])


@pytest.mark.parametrize(
    ("choice", "left", "must"),
    [
        (None, [F, G], ()),
        ("", [F, G], ()),
        ("auto", [F, G], ()),
        ({"type": "auto"}, [F, G], ()),
        ("none", [], ()),
        ({"type": "none"}, [], ()),
        ("required", [F, G], ("f", "g")),
        ("any", [F, G], ("f", "g")),
        ({"type": "any"}, [F, G], ("f", "g")),
        ("g", [F, G], ("g",)),
        ({"type": "function", "function": {"name": "g"}}, [F, G], ("g",)),
        ({"type": "function", "name": "g"}, [F, G], ("g",)),
        ({"type": "web_search_preview"}, [F, G], ()),
        ({"type": "allowed_tools", "tools": [{"name": "f"}], "mode": "required"}, [F], ("f",)),
    ],
)
def test_choices(choice: Any, left: list[Any], must: tuple[str, ...]) -> None:
    assert chosen_tools([F, G], choice) == (left, must)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("h", '"tool_choice" requires the function "h", which "tools" does not have'),
        ({"type": "function"}, '"tool_choice" must be "auto", "none", "required" or name a function'),
        (7, '"tool_choice" must be "auto", "none", "required" or name a function'),
    ],
)
def test_choices_that_cannot_be_met(choice: Any, message: str) -> None:
    with pytest.raises(OllamaError) as error:
        chosen_tools([F], choice)
    assert (error.value.status, error.value.message) == (400, message)
