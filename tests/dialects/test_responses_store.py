from typing import Any

import pytest

from ollama_tw.dialects.openai.responses import store as module
from ollama_tw.dialects.openai.responses.listing import Page, item_list, page_of
from ollama_tw.dialects.openai.responses.store import KEPT_SECONDS, ResponseStore
from ollama_tw.errors import OllamaError


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def response(number: int, previous: int | None = None, text: str = "yes") -> dict[str, Any]:
    return {
        "id": f"resp_{number}",
        "previous_response_id": None if previous is None else f"resp_{previous}",
        "output": [{"id": f"msg_{number}", "type": "message", "role": "assistant", "content": text}],
    }


def item(number: int) -> dict[str, Any]:
    return {"id": f"in_{number}", "type": "message", "role": "user", "content": str(number)}


def ids(items: Any) -> list[str]:
    return [one["id"] for one in items]


def missing(find: Any, *arguments: str) -> str:
    with pytest.raises(OllamaError) as error:
        find(*arguments)
    assert error.value.status == 404
    return error.value.message


def test_a_conversation_has_the_items_of_all_its_responses() -> None:
    store = ResponseStore(Clock())
    store.put(response(1), [item(1)])
    store.put(response(2, 1), [item(2)], store.conversation("resp_1"))
    assert ids(store.conversation("resp_2")) == ["in_1", "msg_1", "in_2", "msg_2"]
    assert ids(store.input_of("resp_2")) == ["in_2"]
    assert store.item("msg_1")["content"] == "yes"
    store.delete("resp_1")
    assert missing(store.response, "resp_1") == "Response with id 'resp_1' not found."
    assert missing(store.delete, "resp_1") == "Response with id 'resp_1' not found."
    # The conversation that goes on keeps what it needs.
    assert ids(store.conversation("resp_2")) == ["in_1", "msg_1", "in_2", "msg_2"]
    assert missing(store.item, "in_9") == "Item with id 'in_9' not found."


def test_responses_expire_after_their_last_use() -> None:
    clock = Clock()
    store = ResponseStore(clock)
    store.put(response(1), [])
    store.put(response(2), [])
    clock.seconds = KEPT_SECONDS - 1
    store.response("resp_1")
    clock.seconds = KEPT_SECONDS + 1
    assert missing(store.response, "resp_2")
    assert store.response("resp_1")["id"] == "resp_1"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    store = ResponseStore(Clock())
    store.put(response(1, text="x" * 2000), [])
    assert missing(store.response, "resp_1")
    for number in range(2, 5):
        store.put(response(number, text="x" * 300), [])
    assert missing(store.response, "resp_2")
    # A conversation counts as a whole: it grows until it does not fit.
    for number in range(5, 7):
        store.put(response(number, number - 1, text="x" * 300), [], store.conversation(f"resp_{number - 1}"))
    assert missing(store.response, "resp_6")
    monkeypatch.setattr(module, "MAX_RESPONSES", 2)
    store = ResponseStore(Clock())
    for number in range(3):
        store.put(response(number), [])
    assert missing(store.response, "resp_0")
    assert store.response("resp_1")


def test_pages_of_items() -> None:
    items = [item(number) for number in range(3)]
    page = item_list(items, page_of({}))
    assert (ids(page["data"]), page["first_id"], page["last_id"], page["has_more"]) == (
        ["in_2", "in_1", "in_0"],
        "in_2",
        "in_0",
        False,
    )
    assert page["data"][0]["content"] == [{"type": "input_text", "text": "2"}]
    first = item_list(items, page_of({"limit": "2", "order": "asc"}))
    assert (ids(first["data"]), first["has_more"]) == (["in_0", "in_1"], True)
    assert ids(item_list(items, Page(2, first["last_id"], ascending=True))["data"]) == ["in_2"]
    empty = item_list([], Page())
    assert (empty["data"], empty["first_id"], empty["has_more"]) == ([], None, False)
    for query in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"order": "up"}):
        with pytest.raises(OllamaError) as error:
            page_of(query)
        assert error.value.status == 400
