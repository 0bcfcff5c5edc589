from typing import Any

import pytest

from ollama_tw.dialects.anthropic.models import model_list, page_of
from ollama_tw.errors import OllamaError

MODELS = [{"id": name} for name in "abcde"]


def listed(**query: str) -> tuple[str, bool]:
    reply = model_list(MODELS, page_of(query))
    names = "".join(model["id"] for model in reply["data"])
    assert (reply["first_id"], reply["last_id"]) == (names[:1] or None, names[-1:] or None)
    return names, reply["has_more"]


def test_all_models_without_a_limit() -> None:
    assert listed() == ("abcde", False)


def test_pages_forward() -> None:
    assert listed(limit="2") == ("ab", True)
    assert listed(limit="2", after_id="b") == ("cd", True)
    assert listed(limit="2", after_id="d") == ("e", False)
    assert listed(limit="2", after_id="e") == ("", False)


def test_pages_backward_end_before_the_id() -> None:
    assert listed(limit="2", before_id="d") == ("bc", True)
    assert listed(limit="2", before_id="c") == ("ab", False)
    assert listed(before_id="a") == ("", False)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"limit": "0"}, '"limit" must be between 1 and 1000'),
        ({"limit": "1001"}, '"limit" must be between 1 and 1000'),
        ({"limit": "-1"}, '"limit" must be between 1 and 1000'),
        ({"limit": "x"}, '"limit" must be between 1 and 1000'),
        ({"after_id": "z"}, '"after_id" is not the id of a model in the list'),
        ({"before_id": "z"}, '"before_id" is not the id of a model in the list'),
        ({"after_id": "a", "before_id": "c"}, 'give either "after_id" or "before_id", not both'),
    ],
)
def test_a_page_that_does_not_exist_is_refused(query: dict[str, Any], error: str) -> None:
    with pytest.raises(OllamaError) as raised:
        listed(**query)
    assert (raised.value.status, raised.value.message) == (400, error)
