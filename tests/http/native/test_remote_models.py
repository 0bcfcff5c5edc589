"""Models that a backend lists are served like those of the library."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_tw.interfaces import RemoteModel
from tests.helpers.application import Application
from tests.helpers.gguf_files import write_gguf

METADATA: dict[str, str | int] = {
    "general.architecture": "far",
    "far.context_length": 4096,
    "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
}
FAR = RemoteModel("org/Far:big", "http://h:1#x", "http://h:1", METADATA)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    app = Application(tmp_path)
    app.create("m", write_gguf(tmp_path / "m.gguf").read_bytes())
    app.backend.remote_models = [FAR, RemoteModel("M", "http://h:1#m", "http://h:1", METADATA)]
    yield app
    app.close()


def test_they_are_listed_after_the_installed_models(app: Application) -> None:
    tags = app.get("/api/tags").json["models"]
    assert [(one["name"], one.get("remote_host")) for one in tags] == [
        ("m:latest", None),
        ("org/Far:big", "http://h:1"),
    ]
    listed = app.get("/v1/models").json["data"]
    assert [(one["id"], one["object"], one["owned_by"]) for one in listed] == [
        ("m:latest", "model", "library"),
        ("org/Far:big", "model", "org"),
    ]


def test_the_library_is_listed_without_them(app: Application) -> None:
    tags = app.get("/api/tags?library=true").json["models"]
    assert [one["name"] for one in tags] == ["m:latest"]


def test_one_is_retrieved_by_its_name(app: Application) -> None:
    found = app.get("/v1/models/org%2Ffar:big")
    assert (found.status, found.json["id"], found.json["owned_by"]) == (200, "org/far:big", "org")
    app.backend.remote_models = []
    assert app.get("/v1/models/org%2Ffar:big").status == 404
    assert [one["id"] for one in app.get("/v1/models").json["data"]] == ["m:latest"]


def test_a_loaded_one_is_shown_by_ps(app: Application) -> None:
    app.set_reply("hello")
    assert app.chat("hi", model="org/far:big").json["message"]["content"] == "hello"
    assert app.backend.plans[-1].model_path == "http://h:1#x"
    app.backend.remote_models = []
    (running,) = app.get("/api/ps").json["models"]
    assert running["name"] == "org/Far:big"
    assert running["details"]["family"] == "far"
    assert len(running["digest"]) == 64


def test_the_description_of_the_backend_writes_the_prompt(app: Application) -> None:
    app.set_reply("one STOP two")
    app.backend.remote_models = [
        RemoteModel(
            "far",
            "http://h:1#y",
            "http://h:1",
            {"general.architecture": "far"},
            template="{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}<reply>",
            system="Be brief.",
            parameters={"stop": ["STOP"], "temperature": 0.25},
            messages=({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}),
        )
    ]
    assert app.chat("c", model="far").json["message"]["content"] == "one "
    runner = app.backend.runners[-1]
    job = runner.jobs[-1]
    assert job.sampling.temperature == 0.25
    assert job.prompt == ("<system>Be brief.<user>a<assistant>b<user>c<reply>")
    shown = app.post("/api/show", {"model": "far"}).json
    assert (shown["system"], shown["template"][-7:]) == ("Be brief.", "<reply>")
