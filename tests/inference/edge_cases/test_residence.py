"""Edge cases of loading, keep_alive and the queue."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import PATIENCE
from tests.helpers.application import Application
from tests.helpers.http import Reply
from tests.helpers.models import CHATML, tiny


def entries(app: Application) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = app.get("/api/ps").json["models"]
    return found


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Application]:
    """Start a server with one slot and a queue of one request."""
    application = Application(tmp_path / "home", OLLAMA_MAX_QUEUE="1")
    application.create("m", tiny(tmp_path, "m", chat_template=CHATML))
    application.set_reply("Hello")
    yield application
    application.close()


def test_row_50_one_waits_and_the_next_is_turned_away(crowded: Application) -> None:
    crowded.generate(prompt="")
    crowded.hold()
    replies: list[Reply] = []
    came = threading.Condition()

    def ask() -> None:
        reply = crowded.generate()
        with came:
            replies.append(reply)
            came.notify_all()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    with came:
        # One request runs and one is queued, both held: only the third is answered.
        assert came.wait_for(lambda: len(replies) == 1, PATIENCE)
    crowded.release()
    for thread in threads:
        thread.join(PATIENCE)
    refused, *others = replies
    text = "server busy, please try again.  maximum pending requests exceeded"
    assert (refused.status, refused.json) == (503, {"error": text})
    # Ollama sends no Retry-After.
    assert int(refused.headers["Retry-After"]) > 0
    assert [reply.status for reply in others] == [200, 200]


def test_row_51_keep_alive_stays_what_it_was(app: Application) -> None:
    app.generate(keep_alive="2h")
    before = entries(app)[0]["expires_at"]
    app.generate()
    # Five minutes from now would be a smaller time.
    assert entries(app)[0]["expires_at"] >= before


def test_row_52_a_smaller_context_is_served_by_the_loaded_one(app: Application) -> None:
    app.generate(keep_alive=0)
    before = app.loads
    app.generate(options={"num_ctx": 8192})
    app.generate()
    app.generate(options={"num_ctx": 4096})
    assert app.loads == before + 1
    assert entries(app)[0]["context_length"] == 8192
    app.generate(options={"num_ctx": 16384})
    assert app.loads == before + 2
    assert entries(app)[0]["context_length"] == 16384
    app.generate(keep_alive=0)


def test_row_53_shift_is_a_matter_of_the_request(app: Application) -> None:
    app.generate()
    before = app.loads
    app.generate(shift=False)
    assert app.job.shift is False
    app.generate()
    assert app.job.shift is True
    assert app.loads == before


def test_row_54_two_tags_of_one_file_are_one_model(app: Application) -> None:
    app.generate(keep_alive=0)
    before = app.loads
    app.generate(model="m")
    app.generate(model="twin")
    assert app.loads == before + 1
    assert [entry["name"] for entry in entries(app)] == ["m:latest"]
    assert app.job.sampling.temperature == 0.5


def test_row_55_forever_is_the_year_2318(app: Application) -> None:
    for keep_alive in (-1, "-1m"):
        app.generate(keep_alive=keep_alive)
        (entry,) = entries(app)
        assert "2290" < entry["expires_at"] < "2350"
        assert entry["size_vram"] == 0
        assert list(entry) == [
            *("name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"),
            *("size_prompt_cache", "slots", "running"),
        ]
    app.generate(keep_alive="5m")


def test_section_5_2_nothing_is_an_empty_list(app: Application) -> None:
    app.generate(keep_alive=0)
    assert app.get("/api/ps").body == b'{"models":[]}'


def test_section_5_2_a_model_that_was_deleted_still_shows(app: Application) -> None:
    app.post("/api/copy", {"source": "m", "destination": "gone"})
    app.generate(keep_alive=0)
    app.generate(model="gone")
    assert app.request("DELETE", "/api/delete", {"model": "gone"}).status == 200
    assert [entry["name"] for entry in entries(app)] == ["gone:latest"]
    app.generate(keep_alive=0)
