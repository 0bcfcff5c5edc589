"""A server whose models run in child processes, in the process of the tests: what its clients get."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from ollama_tw.runner import progress
from ollama_tw.runner.link import STOPPED
from tests.helpers import PATIENCE
from tests.helpers.application import Application
from tests.helpers.http import Reply
from tests.helpers.models import CHATML, tiny
from tests.helpers.server import Stream
from tests.runner.faulty import VARIABLE, FaultyBackend

CONTEXT = 100_000
"""Enough for output that lasts until the end of a test."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    monkeypatch.setenv(VARIABLE, "")
    backend = cast(Any, FaultyBackend())
    backend.runners = ()
    application = Application(
        tmp_path / "home",
        backend=backend,
        OLLAMA_RUNNER="process",
        OLLAMA_NUM_PARALLEL="4",
        OLLAMA_MAX_LOADED_MODELS="2",
    )
    for name in ("m", "other"):
        application.create(name, tiny(tmp_path, name, chat_template=CHATML))
    yield application
    application.close()
    assert children() == []


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if _hosts_a_runner(one)]


def _hosts_a_runner(process: psutil.Process) -> bool:
    try:
        return "ollama_tw.runner.child" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def generate(server: Application, prompt: str, model: str = "m", **fields: Any) -> Reply:
    body = {"model": model, "prompt": prompt, "raw": True, "stream": False, **fields}
    return server.request("POST", "/api/generate", body)


def stream(server: Application, prompt: str, model: str = "m") -> Stream:
    sock = socket.create_connection((server.host, server.port), timeout=PATIENCE)
    options = {"num_predict": -1, "num_ctx": CONTEXT}
    return Stream(sock, "/api/generate", {"model": model, "prompt": prompt, "raw": True, "options": options})


def deaths(server: Application) -> dict[str, float]:
    text = server.request("GET", "/metrics").body.decode()
    return {kind: float(count) for kind, count in re.findall(r'deaths_total\{reason="(\w+)"\} (\S+)', text)}


def metric(server: Application, name: str) -> float:
    found = re.search(rf"^{name} (\S+)", server.request("GET", "/metrics").body.decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def loaded(server: Application) -> list[str]:
    return [one["name"] for one in server.request("GET", "/api/ps").json["models"]]


def test_a_reply_from_a_child_process(server: Application) -> None:
    reply = generate(server, "abc", options={"num_predict": 6})
    assert (reply.status, reply.json["response"]) == (200, "abcabc")
    assert len(children()) == 1
    assert loaded(server) == ["m:latest"]


def test_a_stream_ends_with_the_error_and_the_next_request_loads_again(server: Application) -> None:
    with stream(server, "xyz", "other") as untouched:
        assert untouched.record()
        with stream(server, "late:segv") as broken:
            records = broken.rest()
        assert records[-1] == {"error": STOPPED}
        assert all(not record["done"] for record in records[:-1])
        assert loaded(server) == ["other:latest"]
        assert generate(server, "abc", options={"num_predict": 3}).json["response"] == "abc"
        assert untouched.record()
    assert deaths(server) == {"SIGSEGV": 1.0}


def test_a_request_without_a_reply_yet_is_run_again(server: Application) -> None:
    replies: list[Reply] = []
    body = {"num_predict": 30_000, "num_ctx": CONTEXT}
    requesting = threading.Thread(target=lambda: replies.append(generate(server, "abc", options=body)))
    requesting.start()
    with stream(server, "xyz") as beside:
        assert beside.record()
        (child,) = children()
        child.send_signal(signal.SIGKILL)
        assert beside.rest()[-1] == {"error": STOPPED}
    requesting.join(PATIENCE)
    assert (replies[0].status, replies[0].json["eval_count"]) == (200, 30_000)
    assert deaths(server) == {"SIGKILL": 1.0}


def test_a_request_that_kills_its_runner_twice_fails_and_then_the_model_is_refused(
    server: Application,
) -> None:
    reply = generate(server, "prefill:abort")
    assert (reply.status, reply.json["error"]) == (500, STOPPED)
    assert deaths(server) == {"SIGABRT": 2.0}
    reply = generate(server, "prefill:abort")
    assert reply.status == 503
    assert "was killed by SIGABRT, the third time within a minute" in reply.json["error"]
    assert generate(server, "abc").status == 503
    assert generate(server, "abc", "other", options={"num_predict": 3}).json["response"] == "abc"
    assert metric(server, "ollama_slots_busy") == 0
    assert metric(server, "ollama_queue_length") == 0


def test_a_model_on_which_the_loader_crashes(server: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "load:segv")
    reply = generate(server, "abc")
    assert reply.status == 500
    assert reply.json["error"] == "llama runner process has terminated: it was killed by SIGSEGV"
    monkeypatch.setenv(VARIABLE, "")
    assert generate(server, "abc", options={"num_predict": 3}).json["response"] == "abc"
    assert loaded(server) == ["m:latest"]


def test_an_embedding_that_kills_its_runner(server: Application) -> None:
    reply = server.request("POST", "/api/embed", {"model": "m", "input": ["one", "embed:exit"]})
    assert (reply.status, reply.json["error"]) == (500, STOPPED)
    reply = server.request("POST", "/api/embed", {"model": "m", "input": "one"})
    assert reply.status in (200, 503)


def test_an_idle_runner_that_dies_is_not_listed(server: Application) -> None:
    generate(server, "abc", options={"num_predict": 3})
    (child,) = children()
    child.send_signal(signal.SIGKILL)
    child.wait(PATIENCE)
    while loaded(server):
        pass
    assert generate(server, "abc", options={"num_predict": 3}).status == 200


def test_a_client_that_goes_ends_a_load_that_hangs(
    server: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "load:freeze")
    waiting = stream(server, "abc")
    while not children():
        pass
    (child,) = children()
    waiting.close()
    child.wait(PATIENCE)
    monkeypatch.setenv(VARIABLE, "")
    assert generate(server, "abc", options={"num_predict": 3}).status == 200


@pytest.mark.parametrize("fault", ["hang", "freeze"])
def test_a_load_without_progress_is_killed(
    server: Application, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    with monkeypatch.context() as patch:
        # For this load alone: on a busy machine the start of a process takes longer.
        patch.setattr(server.daemon._components.scheduler._loader, "_timeout", 2 * 10**9)
        patch.setenv(VARIABLE, f"load:{fault}")
        reply = generate(server, "abc")
    assert reply.status == 500
    assert reply.json["error"].startswith("timed out waiting for llama-server to start")
    assert generate(server, "abc", options={"num_predict": 3}).status == 200
    assert deaths(server) == {"hang": 1.0}
    # The thread of the load that was given up kills its process.
    while len(children()) > 1:
        time.sleep(0.05)
    assert len(children()) == 1


def test_a_step_that_does_not_end_is_a_death(server: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "STEP", 0.2)
    reply = generate(server, "prefill:hang")
    assert (reply.status, reply.json["error"]) == (500, STOPPED)
    assert deaths(server) == {"hang": 2.0}


def test_the_sandbox_is_reported(server: Application) -> None:
    generate(server, "abc", options={"num_predict": 3})
    (entry,) = server.request("GET", "/api/backends").json["backends"]
    assert entry["runner"] == "process"
    assert "no core dumps" in entry["sandbox"]["measures"]
    assert isinstance(entry["sandbox"]["missing"], list)
    assert json.dumps(entry)
    assert os.getpid() not in [child.pid for child in children()]
