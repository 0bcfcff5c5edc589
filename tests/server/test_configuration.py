"""The configuration file on a whole server: settings, models, aliases and reloads."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.config.declaration import SettingsError
from tests.helpers.application import Application
from tests.helpers.gguf_files import write_gguf
from tests.helpers.logs import captured, texts

Start = Callable[..., "Configured"]


class Configured(Application):
    """A server with a configuration file, and the models ``m`` and ``other``."""

    def write(self, text: str) -> None:
        """Replace the configuration file and reload it."""
        (self.home / ".ollama/ollama.toml").write_text(text)
        self.reload()

    def loaded(self) -> list[str]:
        """Return the names of the loaded models."""
        return sorted(model["name"] for model in self.get("/api/ps").json["models"])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a server with a configuration file of this text."""
    apps: list[Configured] = []

    def start(text: str, **variables: Any) -> Configured:
        path = tmp_path / ".ollama/ollama.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        app = Configured(tmp_path, **variables)
        apps.append(app)
        app.set_reply("a", "b")
        for name in ("m", "other"):
            # Models with the same weights would share a runner.
            metadata = {"llama.context_length": 4096, "llama.embedding_length": 64, "general.basename": name}
            gguf = write_gguf(tmp_path / f"{name}.gguf", metadata={**metadata, "llama.block_count": 1})
            app.create(name, gguf.read_bytes())
        return app

    yield start
    for app in apps:
        app.close()


def test_the_file_sets_what_the_environment_does_not(start: Start) -> None:
    app = start("num_parallel = 3\ncontext_length = 512\n", OLLAMA_CONTEXT_LENGTH="1024")
    app.generate()
    assert (app.runner.plan.slots, app.runner.plan.context_length) == (3, 1024)


def test_a_file_with_mistakes_does_not_start(start: Start, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        start("\nnum_parallel = 0\nfrob = 1\n")
    path = tmp_path / ".ollama/ollama.toml"
    assert str(refused.value).splitlines() == [
        f'{path}:2: num_parallel = "0" is not from 1 to 256',
        f'{path}:3: there is no setting "frob"',
    ]


def test_another_file(start: Start, tmp_path: Path) -> None:
    other = tmp_path / "server.toml"
    other.write_text("num_parallel = 2\n")
    app = start("num_parallel = 3\n", OLLAMA_CONFIG=str(other))
    app.generate()
    assert app.runner.plan.slots == 2


def test_a_file_that_is_named_and_missing(start: Start, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: it cannot be read: no such file or directory"):
        start("", OLLAMA_CONFIG=str(tmp_path / "none.toml"))


# ------------------------------------------------------------------------------------------ models

MODEL = """\
[models."M"]
parallel = 4
context_length = 1024
keep_alive = "2h"
kv_cache_type = "q8_0"
options = { temperature = 0.25, top_k = 11 }
"""


def test_the_settings_of_a_model(start: Start) -> None:
    app = start("num_parallel = 2\n" + MODEL)
    app.generate()
    plan = app.runner.plan
    assert (plan.slots, plan.context_length, plan.kv_cache_type) == (4, 1024, "q8_0")
    assert (app.job.sampling.temperature, app.job.sampling.top_k) == (0.25, 11)
    app.generate(options={"temperature": 0.5})
    assert (app.job.sampling.temperature, app.job.sampling.top_k) == (0.5, 11)
    app.generate(model="other")
    plan = app.runner.plan
    assert (plan.slots, plan.kv_cache_type, app.job.sampling.top_k) == (2, "f16", 40)


def test_the_file_replaces_the_parameters_of_the_model(start: Start) -> None:
    app = start("[models.tuned]\noptions = { temperature = 0.25 }\n")
    body = {"model": "tuned", "from": "m", "parameters": {"temperature": 0.75, "top_k": 9}, "stream": False}
    assert app.post("/api/create", body).status == 200
    app.generate(model="tuned")
    assert (app.job.sampling.temperature, app.job.sampling.top_k) == (0.25, 9)


def test_keep_alive_of_a_model(start: Start) -> None:
    app = start("[models.m]\nkeep_alive = 0\n")
    app.generate()
    assert app.loaded() == []
    app.generate(keep_alive="1h")
    assert app.loaded() == ["m:latest"]


def test_a_pinned_model_is_not_evicted_and_does_not_expire(start: Start) -> None:
    app = start("[models.m]\npin = true\n")
    app.generate(keep_alive=0)
    assert app.loaded() == ["m:latest"]
    refused = app.generate(model="other")
    assert refused.status == 503
    assert refused.json["error"].startswith("this model cannot be loaded beside the pinned ones")
    assert app.generate().status == 200
    app.post("/api/generate", {"model": "m", "keep_alive": 0})
    assert app.generate(model="other").status == 200


def test_a_pinned_model_leaves_room_for_others(start: Start) -> None:
    app = start("max_loaded_models = 2\n[models.m]\npin = true\n")
    app.create("third", write_gguf(app.home / "t.gguf", metadata={"llama.block_count": 1}).read_bytes())
    for model in ("m", "other", "third"):
        assert app.generate(model=model, keep_alive=-1).status == 200
    assert app.loaded() == ["m:latest", "third:latest"]


def settle(app: Application, condition: Callable[[], bool]) -> None:
    """Let the reactor turn until ``condition`` is true."""
    while not condition():
        app._in_reactor(lambda: None)


def test_a_model_that_is_preloaded(start: Start) -> None:
    app = start("[models.m]\npreload = true\n")
    assert app.loads == 0, "the model did not exist at the start"
    app.write("[models.m]\npreload = true\n[models.missing]\npreload = true\n")
    settle(app, lambda: app.loads == 1)
    settle(app, lambda: app.loaded() == ["m:latest"])


def test_a_model_is_preloaded_at_the_start(start: Start, tmp_path: Path) -> None:
    start("")
    (tmp_path / ".ollama/ollama.toml").write_text("[models.m]\npreload = true\n")
    app = Configured(tmp_path)
    try:
        settle(app, lambda: app.loaded() == ["m:latest"])
    finally:
        app.close()


# ----------------------------------------------------------------------------------------- aliases


def test_an_alias_is_usable_wherever_a_model_is_run_or_shown(start: Start) -> None:
    app = start('[aliases]\n"gpt-4o" = "m"\n"Claude-X" = "m:latest"\n')
    say = [{"role": "user", "content": "hi"}]
    reply = app.chat("hi", model="gpt-4o").json
    assert (reply["model"], reply["message"]["content"]) == ("gpt-4o", "ab")
    assert app.generate(model="GPT-4o:latest").status == 200
    assert app.post("/api/embed", {"model": "gpt-4o", "input": "x"}).status == 200
    assert app.post("/api/tokenize", {"model": "gpt-4o", "text": "x"}).status == 200
    openai = app.post("/v1/chat/completions", {"model": "gpt-4o", "messages": say}).json
    assert openai["choices"][0]["message"]["content"] == "ab"
    body = {"model": "claude-x", "max_tokens": 5, "messages": say}
    assert app.post("/v1/messages", body).json["content"][0]["text"] == "ab"
    assert app.loaded() == ["m:latest"]
    shown = app.post("/api/show", {"model": "gpt-4o"})
    assert shown.json == app.post("/api/show", {"model": "m"}).json
    assert app.get("/v1/models/gpt-4o").json["id"] == "gpt-4o"


def test_aliases_are_listed_with_the_model_that_they_stand_for(start: Start) -> None:
    app = start('[aliases]\n"gpt-4o" = "m"\n"lost" = "nowhere"\n')
    models = {one["name"]: one for one in app.get("/api/tags").json["models"]}
    assert set(models) == {"m:latest", "other:latest", "gpt-4o"}
    assert models["gpt-4o"] == {
        **models["m:latest"],
        "name": "gpt-4o",
        "model": "gpt-4o",
        "alias_of": "m:latest",
    }
    ids = [one["id"] for one in app.get("/v1/models").json["data"]]
    assert sorted(ids) == ["gpt-4o", "m:latest", "other:latest"]
    assert app.chat("hi", model="lost").status == 404


def test_an_alias_is_not_changed_or_deleted_as_a_model(start: Start) -> None:
    app = start('[aliases]\n"gpt-4o" = "m"\n')
    assert app.request("DELETE", "/api/delete", {"model": "gpt-4o"}).status == 404
    assert app.generate(model="m").status == 200


# ----------------------------------------------------------------------------------------- reloads


def test_a_reload_cuts_no_stream_and_applies_to_the_next_request(start: Start) -> None:
    app = start("[models.m]\noptions = { top_k = 5 }\n")
    app.set_reply(*["x"] * 50)
    app.generate()
    app.hold()
    connections = [app.connect() for _ in range(4)]
    body = json.dumps({"model": "m", "prompt": "hi"})
    for connection in connections:
        connection.request("POST", "/api/generate", body)
    app.runner.wait_for(lambda: app.runner.running == 1)
    settle(app, lambda: len(app.get("/api/requests").json["requests"]) == 4)
    with captured() as events:
        app.write('keep_alive = "9m"\n[models.m]\noptions = { top_k = 6 }\n[aliases]\n"new" = "m"\n')
    assert "configuration reloaded; changed: OLLAMA_KEEP_ALIVE, models and aliases" in texts(events)
    app.release()
    for connection in connections:
        records = [json.loads(line) for line in connection.getresponse().read().splitlines()]
        assert records[-1]["done_reason"] == "stop"
        assert "".join(record["response"] for record in records) == "x" * 50
        connection.close()
    assert app.loads == 1
    app.generate(model="new")
    assert app.job.sampling.top_k == 6
    assert app.loads == 1


def test_a_reload_of_each_kind(start: Start) -> None:
    app = start("")
    app.generate()
    app.write(
        'num_parallel = 3\nkv_cache_type = "q4_0"\nmax_loaded_models = 2\norigins = "http://a.example"\n'
    )
    app.generate(model="other")
    assert (app.runner.plan.slots, app.runner.plan.kv_cache_type) == (3, "q4_0")
    assert app.loaded() == ["m:latest", "other:latest"]
    assert app.get("/api/tags", Origin="http://b.example").status == 403
    copy = {"source": "m", "destination": "c"}
    assert app.request("POST", "/api/copy", copy, {"Origin": "http://a.example"}).status == 200


def test_a_reload_with_a_mistake_changes_nothing(start: Start) -> None:
    app = start("[models.m]\noptions = { top_k = 5 }\n")
    with captured() as events:
        app.write("[models.m]\noptions = { top_k = 'x' }\n")
    path = app.home / ".ollama/ollama.toml"
    assert (
        "configuration not reloaded, the one before stays in force: "
        f'{path}:2: option "top_k" must be of type integer'
    ) in texts(events)
    app.generate()
    assert app.job.sampling.top_k == 5


def test_what_needs_a_restart_is_named(start: Start) -> None:
    app = start("")
    for _ in range(2):
        with captured() as events:
            app.write('prompt_cache = "1GB"\nllm_library = "cuda"\n')
        assert (
            "a restart is needed for the changed values of OLLAMA_PROMPT_CACHE, OLLAMA_LLM_LIBRARY"
        ) in texts(events)
    # Other threads of the server log too.
    with captured("ollama_tw.server.reloading") as events:
        app.write("")
    assert texts(events) == ["configuration reloaded; changed: nothing"]


def test_a_file_that_appears(start: Start, tmp_path: Path) -> None:
    app: Any = start("")
    (tmp_path / ".ollama/ollama.toml").unlink()
    app.reload()
    app.write("[models.m]\noptions = { top_k = 5 }\n")
    app.generate()
    assert app.job.sampling.top_k == 5


def test_a_model_drafts_for_another_one(start: Start) -> None:
    app = start('[models.m]\ndraft = "other"\n')
    app.generate()
    weights = app.post("/api/show", {"model": "other"}).json["modelfile"].partition("\nFROM ")[2]
    assert app.runner.plan.draft_path == weights.partition("\n")[0]


@pytest.mark.parametrize(("draft", "warned"), [('"missing"', True), ("false", False)])
def test_a_model_without_a_draft_model_still_runs(
    start: Start, caplog: pytest.LogCaptureFixture, draft: str, warned: bool
) -> None:
    app = start(f"[models.m]\ndraft = {draft}\n")
    app.generate()
    app.generate()
    assert app.runner.plan.draft_path == ""
    assert caplog.text.count("the draft model of m:latest is not used") == warned
