"""A server process and the child processes of its models: signals, and what each of them imports."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers import PATIENCE
from tests.helpers.models import CHATML, tiny
from tests.helpers.server import Server, Stream, running

PLUGINS = Path(__file__).with_name("plugins")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(
        tmp_path / "home", plugin_paths=[PLUGINS], OLLAMA_LLM_LIBRARY="faulty", OLLAMA_NUM_PARALLEL="2"
    ) as server:
        server.create("m", tiny(tmp_path, "m", chat_template=CHATML))
        yield server


def child_of(server: Server) -> psutil.Process:
    (child,) = psutil.Process(server.process.pid).children()
    assert "ollama_tw.runner.child" in child.cmdline()
    return child


def stream(server: Server, prompt: str, tokens: int) -> Stream:
    options = {"num_predict": tokens, "num_ctx": 100_000}
    return Stream(
        server.socket(), "/api/generate", {"model": "m", "prompt": prompt, "raw": True, "options": options}
    )


def test_no_child_is_left_when_the_server_is_killed(server: Server) -> None:
    with stream(server, "abc", -1) as running:
        assert running.record()
        child = child_of(server)
        server.stop(signal.SIGKILL)
        child.wait(PATIENCE)
    assert not child.is_running()


def test_a_signal_to_all_processes_drains(server: Server) -> None:
    with stream(server, "abc", 50_000) as running:
        assert running.record()
        child = child_of(server)
        # As a service manager does with KillMode=control-group.
        child.terminate()
        server.send_signal(signal.SIGTERM)
        last = running.rest()[-1]
    assert (last["done_reason"], last["eval_count"]) == ("length", 50_000)
    assert server.wait() == 0
    assert not child.is_running()


def test_a_reload_does_not_touch_the_child(server: Server) -> None:
    with stream(server, "abc", -1) as running:
        assert running.record()
        child = child_of(server)
        child.send_signal(signal.SIGHUP)
        assert [running.record() for _ in range(1000)][-1]
        assert child.is_running()


def test_the_server_does_not_map_llama_cpp(tmp_path: Path, smollm2_gguf: str) -> None:
    with running(tmp_path / "home", OLLAMA_CONTEXT_LENGTH="256") as server:
        server.create("smol", Path(smollm2_gguf).read_bytes())
        options = {"num_predict": 4, "temperature": 0}
        reply = server.generate("Once upon", model="smol", raw=True, options=options)
        assert reply.json["eval_count"] == 4
        assert server.post("/api/tokenize", {"model": "smol", "text": "hello"}).json["tokens"]
        assert server.get("/api/backends").json["backends"]
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "libllama" not in maps
        assert "numpy" not in maps
        child = psutil.Process(server.process.pid).children()[0]
        assert "libllama" in Path(f"/proc/{child.pid}/maps").read_text()
        assert json.loads(server.get("/api/ps").body)["models"][0]["name"] == "smol:latest"
