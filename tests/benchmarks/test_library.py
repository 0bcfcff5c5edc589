from pathlib import Path

from benchmarks.library import write_store
from ollama_tw.library.queries import ModelList
from ollama_tw.library.store import Store


def test_the_store_is_one_that_the_server_can_list(tmp_path: Path) -> None:
    write_store(tmp_path, 3)
    store = Store(tmp_path, prune=False)
    entries = ModelList(store).entries(store.list())
    assert {entry["name"] for entry in entries} == {f"model-{number}:latest" for number in range(3)}
    assert len({entry["digest"] for entry in entries}) == 3
    assert entries[0]["details"]["context_length"] == 8192
    assert entries[0]["capabilities"] == ["completion", "tools"]
