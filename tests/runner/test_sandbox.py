"""The sandbox of child processes, tried from inside one."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import psutil
import pytest

from ollama_tw.interfaces import ChildEngine, LoadPlan
from ollama_tw.runner import landlock
from ollama_tw.runner.backend import ProcessBackend, in_children
from ollama_tw.runner.child import files_of
from ollama_tw.runner.environment import child_environment
from ollama_tw.runner.messages import Open
from ollama_tw.runner.runner import ProcessRunner
from ollama_tw.runner.sandbox import code_directories
from tests.runner.faulty import FaultyBackend

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


def landlock_version() -> int:
    try:
        return landlock.version()
    except landlock.Unavailable:
        return 0


needs_landlock = pytest.mark.skipif(landlock_version() < 1, reason="the kernel has no Landlock")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    (home / ".ollama").mkdir(parents=True)
    (home / ".ollama/id_ed25519").write_text("a private key")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("OLLAMA_SECRET", "a setting of the server")
    return home


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_text("weights")
    return path


@pytest.fixture
def runner(home: Path, model: Path) -> Iterator[ProcessRunner]:
    backend = in_children(FaultyBackend())
    assert isinstance(backend, ProcessBackend)
    with closing(backend.load(LoadPlan(str(model)), lambda done: True)) as runner:
        assert isinstance(runner, ProcessRunner)
        yield runner


def attempt(runner: ProcessRunner, what: str, value: object) -> int:
    (result,) = runner.tokenize(f"try:{what}:{value}")
    return result


@needs_landlock
def test_it_reads_the_model_but_not_the_key(runner: ProcessRunner, home: Path, model: Path) -> None:
    assert attempt(runner, "read", model) == 0
    assert attempt(runner, "read", home / ".ollama/id_ed25519") == errno.EACCES
    assert attempt(runner, "read", "/etc/shadow") in (errno.EACCES, errno.ENOENT)
    # The environment of the server may contain secrets.
    assert attempt(runner, "read", f"/proc/{os.getpid()}/environ") == errno.EACCES


@needs_landlock
def test_it_writes_and_executes_nothing(runner: ProcessRunner, tmp_path: Path, model: Path) -> None:
    assert attempt(runner, "write", tmp_path / "new") == errno.EACCES
    assert attempt(runner, "write", model) == errno.EACCES
    assert attempt(runner, "execute", "/bin/true") == errno.EACCES
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(landlock_version() < 4, reason="the kernel cannot forbid TCP")
def test_it_connects_to_no_port(runner: ProcessRunner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert attempt(runner, "connect", listening.getsockname()[1]) == errno.EACCES


@pytest.mark.skipif(landlock_version() < 6, reason="the kernel cannot confine signals")
def test_it_sends_no_signal_to_the_server(runner: ProcessRunner) -> None:
    assert attempt(runner, "signal", os.getpid()) == errno.EPERM


def test_it_dumps_no_core(runner: ProcessRunner) -> None:
    assert attempt(runner, "core", "") == 0


def test_it_has_no_capabilities_and_gains_none(runner: ProcessRunner) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{runner.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"


def test_the_memory_killer_takes_it_first(runner: ProcessRunner) -> None:
    mine, its = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (os.getpid(), runner.pid))
    assert its == min(mine + 500, 1000)


def test_it_has_no_settings_of_the_server(runner: ProcessRunner) -> None:
    variables = psutil.Process(runner.pid).environ()
    assert not [name for name in variables if name.startswith("OLLAMA_")]
    assert "PATH" in variables


def test_it_imports_neither_twisted_nor_klein(runner: ProcessRunner) -> None:
    assert attempt(runner, "imported", "zope.interface") == 1
    for name in ("twisted", "klein", "autobahn", "ollama_tw.server"):
        assert attempt(runner, "imported", name) == 0


def test_what_is_in_force_is_known_after_the_first_load(home: Path, model: Path) -> None:
    backend = in_children(FaultyBackend())
    assert isinstance(backend, ProcessBackend)
    assert backend.sandbox is None
    backend.load(LoadPlan(str(model)), lambda done: True).close()
    assert backend.sandbox is not None
    measures = {"no core dumps", "no new privileges", "no capabilities", "ends with the server"}
    assert measures <= set(backend.sandbox.measures)
    assert ("no TCP" in backend.sandbox.measures) == (landlock_version() >= 4)


def test_a_missing_measure_is_no_reason_not_to_start(
    home: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Replaces the module in the child alone.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('FAULTY') == 'old kernel':\n"
        "    from ollama_tw.runner import landlock\n"
        "    def version(): raise landlock.Unavailable('the kernel has no Landlock')\n"
        "    landlock.version = version\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("FAULTY", "old kernel")
    backend = in_children(FaultyBackend())
    assert isinstance(backend, ProcessBackend)
    backend.load(LoadPlan(str(model)), lambda done: True).close()
    assert backend.sandbox is not None
    assert "files and devices by Landlock (the kernel has no Landlock)" in backend.sandbox.missing
    assert "no TCP (the kernel cannot forbid it)" in backend.sandbox.missing
    assert "no core dumps" in backend.sandbox.measures


def test_a_path_of_python_that_contains_the_home_directory_does_not_open_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "package").mkdir()
    (home / ".hidden").mkdir()
    (tmp_path / "beside").mkdir()
    monkeypatch.setattr(sys, "path", [str(home), str(tmp_path)])
    found = code_directories()
    assert str(home / "package") in found
    assert str(tmp_path / "beside") in found
    assert not {str(home), str(tmp_path), str(home / ".hidden"), str(home / ".ollama")} & set(found)


def test_an_engine_that_an_import_hook_finds_can_be_read(tmp_path: Path) -> None:
    package = tmp_path / "elsewhere" / "engine_of_a_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")

    class Finder(MetaPathFinder):
        """As of a package that is installed for development."""

        def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
            found = package / "__init__.py"
            return spec_from_file_location(name, found) if name == package.name else None

    finder = Finder()
    sys.meta_path.append(finder)
    try:
        files = files_of(Open(ChildEngine(f"{package.name}.x", "Engine"), LoadPlan("/m"), "", 0))
    finally:
        sys.meta_path.remove(finder)
    assert files == ["/m", str(package)]


def test_the_environment_has_what_an_engine_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_HOST", "a")
    monkeypatch.setenv("ENGINE_KEY", "b")
    monkeypatch.setenv("TOKEN", "c")
    assert not {"ENGINE_HOST", "ENGINE_KEY", "TOKEN"} & set(child_environment())
    assert {"ENGINE_HOST", "ENGINE_KEY"} <= set(child_environment(["ENGINE_*"]))
    assert "TOKEN" in child_environment(["TOKEN"])


def test_the_threads_of_the_engine_do_not_spin_unless_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert child_environment()["GOMP_SPINCOUNT"] == "100000"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert "GOMP_SPINCOUNT" not in child_environment()
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert child_environment()["GOMP_SPINCOUNT"] == "7"
