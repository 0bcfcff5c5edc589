"""Replicas that die, come and go; files that are fetched; a server in front of a cluster."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from ollama_tw.interfaces import DoneReason, IRunner, Job, LoadCancelled, LoadError, LoadPlan, RunnerError
from ollama_tw.library.digests import digest_of
from ollama_tw.testing.contract import GREEDY, Consumer
from tests.cluster.conftest import NODES, PACKAGE
from tests.helpers.gguf_files import write_gguf
from tests.helpers.models import CHATML, tiny
from tests.helpers.server import PLUGINS, Server, Stream

LANES = 2
PATIENCE = 60.0

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(400)]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_gguf(tmp_path / "m.gguf"))


@pytest.fixture(autouse=True)
def settings(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_TW_RAY_BACKEND", "paced")
    monkeypatch.setenv("OLLAMA_TW_RAY_MAX_REPLICAS", "2")


def load(plan: LoadPlan, progress: Callable[[float], bool] = lambda done: True) -> IRunner:
    from ollama_tw_ray import RayBackend

    backend = RayBackend()
    assert backend.probe().available
    return backend.load(plan, progress)


class Watched:
    """A runner, and the numbers of its replicas as they are reported."""

    def __init__(self, runner: Any) -> None:
        from ollama_tw_ray import states

        self.runner = runner
        self.application: str = runner._application.name
        self._changed = threading.Condition()
        self._states: Sequence[states.RunningState] = ()

        def changed(now: Sequence[states.RunningState]) -> None:
            runner._replicas_changed(now)
            with self._changed:
                self._states = now
                self._changed.notify_all()

        states.watch(self.application, changed)

    def wait_for(self, replicas: int, running: int | None = None) -> None:
        """Wait until there are so many replicas, with so many jobs in all."""

        def reached() -> bool:
            jobs = sum(one.running for one in self._states)
            return len(self._states) == replicas and running in (None, jobs)

        with self._changed:
            assert self._changed.wait_for(reached, PATIENCE), self._states

    def pids(self) -> list[int]:
        """Return the processes of the replicas."""
        title = f"ray::ServeReplica:{self.application}:"
        return [
            one.pid
            for one in psutil.process_iter(["cmdline"])
            if title in " ".join(one.info["cmdline"] or ())
        ]


def job(name: str, words: int = 600) -> Job:
    return Job(f"{name * 70} COUNT {words}", GREEDY)


def whole(words: int = 600) -> str:
    return "".join(f" {number}" for number in range(words))


def test_the_nodes_are_devices() -> None:
    from ollama_tw_ray import RayBackend

    devices = RayBackend().probe().devices
    assert [(one.description, one.kind) for one in devices] == [("1 CPUs", "cpu")] * NODES


def test_a_load_that_fails_or_is_cancelled_leaves_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import serve

    with pytest.raises(LoadError, match=r"^the model's file cannot be read: .*nothing\.gguf"):
        load(LoadPlan(str(tmp_path / "nothing.gguf")))
    with pytest.raises(LoadCancelled):
        load(LoadPlan(model), lambda done: False)
    monkeypatch.setenv("OLLAMA_TW_RAY_BACKEND", "none such")
    with pytest.raises(LoadError, match=r'no backend "none such" is installed'):
        load(LoadPlan(model))
    # They are deleted on threads.
    for thread in threading.enumerate():
        if thread.name == "ray serve":
            thread.join(PATIENCE)
    assert serve.status().applications == {}


def test_replicas_come_with_the_load_and_go_without(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_TW_RAY_MIN_REPLICAS", "0")
    monkeypatch.setenv("OLLAMA_KEEP_ALIVE", "2s")
    # The jobs last as long as it takes to start the replicas.
    jobs = [job(name, 1_000_000) for name in "abcd"]
    with closing(load(LoadPlan(model, slots=LANES, context_length=2_000_000))) as runner:
        watched = Watched(runner)
        watched.wait_for(0)
        # One more than there are: Ray adds a replica for the jobs that wait.
        assert runner.slots == LANES
        running = [Consumer(runner.generate(one)) for one in jobs[:2]]
        watched.wait_for(1)
        assert runner.slots == 2 * LANES
        running += [Consumer(runner.generate(one)) for one in jobs[2:]]
        watched.wait_for(2, running=4)
        for one in jobs:
            one.cancel.set()
        assert [one.ended().reason for one in running] == [DoneReason.CANCELLED] * 4
        watched.wait_for(0)


def test_a_replica_that_is_killed_loses_what_it_had_begun_only(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_TW_RAY_MAX_REPLICAS", "1")
    with closing(load(LoadPlan(model, slots=LANES))) as runner:
        watched = Watched(runner)
        begun = [runner.generate(job(name)) for name in "ab"]
        for one in begun:
            assert next(one).text
        waiting = [Consumer(runner.generate(job(name, 20))) for name in "cd"]
        (pid,) = watched.pids()
        os.kill(pid, signal.SIGKILL)
        for one in begun:
            with pytest.raises(RunnerError, match="the reply broke off: its replica died"):
                list(one)
        # A new replica takes its place.
        assert [one.ended().text for one in waiting] == [whole(20)] * 2


def test_the_job_ends_at_the_replica_when_it_is_cancelled(model: str) -> None:
    with closing(load(LoadPlan(model, slots=LANES))) as runner:
        watched = Watched(runner)
        cancelled, left = job("a", 100_000), job("b", 100_000)
        pieces = runner.generate(cancelled)
        assert next(pieces).text
        watched.wait_for(1, running=1)
        cancelled.cancel.set()
        assert list(pieces)[-1].done is not None
        watched.wait_for(1, running=0)
        other: Any = runner.generate(left)
        assert next(other).text
        other.close()
        watched.wait_for(1, running=0)


def test_files_that_a_node_lacks_are_fetched(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ollama_tw_ray import cluster
    from ollama_tw_ray.files import ModelFile

    content = Path(model).read_bytes()
    digest = digest_of(content)
    elsewhere = [ModelFile("/nowhere/m.gguf", digest, len(content))]
    monkeypatch.setattr(cluster, "files_of", lambda plan: elsewhere)
    with closing(load(LoadPlan(model, slots=LANES, digests=(digest,)))) as runner:
        assert "".join(piece.text for piece in runner.generate(job("a", 5))) == whole(5)
    stored = Path(os.environ["OLLAMA_TW_RAY_STORE"]) / digest.replace(":", "-")
    assert stored.read_bytes() == content


@pytest.fixture
def front(cluster: str, tmp_path: Path) -> Iterator[Server]:
    """Return a server whose models run on the cluster."""
    variables: dict[str, Any] = {
        name: os.environ[name] for name in os.environ if name.startswith(("OLLAMA_TW_RAY", "RAY_"))
    }
    server = Server(
        tmp_path / "front",
        plugin_paths=[PLUGINS, PACKAGE],
        OLLAMA_LLM_LIBRARY="ray",
        OLLAMA_NUM_PARALLEL=str(LANES),
        **variables,
    )
    yield server.ready()
    server.discard()


def test_a_server_in_front_of_the_cluster(front: Server, tmp_path: Path) -> None:
    from ray import serve

    front.create("m", tiny(tmp_path, "m", chat_template=CHATML))
    reply = front.chat("hi COUNT 3", model="m").json
    assert reply["message"]["content"] == whole(3)
    (loaded,) = front.get("/api/ps").json["models"]
    (replica,) = loaded["replicas"]
    assert (replica["state"], replica["slots"]) == ("ready", LANES)
    assert loaded["slots"] == 2 * LANES
    body = {"model": "m", "prompt": "COUNT 300", "raw": True}
    with Stream(front.socket(), "/api/generate", body) as stream:
        assert len(stream.rest()) > 3
    assert front.stop() == 0
    assert serve.status().applications == {}


def test_the_replicas_of_a_server_that_was_killed_are_stopped(front: Server, tmp_path: Path) -> None:
    from ray import serve

    front.create("m", tiny(tmp_path, "m", chat_template=CHATML))
    assert front.chat("hi COUNT 3", model="m").status == 200
    title = f"ray::ServeReplica:{next(iter(serve.status().applications))}:"
    replicas = [
        one for one in psutil.process_iter(["cmdline"]) if title in " ".join(one.info["cmdline"] or ())
    ]
    assert replicas
    front.process.kill()
    gone, alive = psutil.wait_procs(replicas, PATIENCE)
    assert (len(gone), alive) == (len(replicas), [])
