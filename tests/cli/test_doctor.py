"""``ollama doctor``: each trap is found and has a remedy."""

import json
import os
import shutil
import socket
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.cli.doctor import checks, devices, network, storage
from ollama_tw.cli.doctor.findings import Finding, lines
from tests.cli.conftest import Ollama, runner


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port of this machine on which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


def found(findings: Iterator[Finding], subject: str) -> list[Finding]:
    return [finding for finding in findings if finding.subject == subject]


def test_mistakes_in_the_configuration_file(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text("num_parallel = 0\n")
    environ = {"HOME": str(tmp_path), "OLLAMA_CONFIG": str(path)}
    first = next(checks.findings(environ))
    assert (first.level, first.subject) == ("problem", "configuration file")
    assert first.text == f'{path}:1: num_parallel = "0" is not from 1 to 256'


def test_a_healthy_machine(ollama: Ollama) -> None:
    # The registry is not reached by tests, and no pull is needed for a model that is imported.
    result = ollama("doctor", "--json", HTTPS_PROXY="", https_proxy="", NO_PROXY="*", OLLAMA_NUM_PARALLEL="x")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert result.err == ""
    levels = {record["subject"]: record["level"] for record in records}
    assert levels["server"] == "ok"
    assert levels["access"] == "ok"
    assert any(record["text"].startswith("cpu: ") for record in records if record["level"] == "ok")
    setting = next(record for record in records if record["subject"] == "settings")
    assert setting["text"].startswith('OLLAMA_NUM_PARALLEL="x" is not a whole number')
    assert result.code == int("problem" in levels.values())


def test_problems_have_a_remedy_and_status_1(tmp_path: Path, closed_port: int) -> None:
    run = runner(tmp_path, f"http://127.0.0.1:{closed_port}")
    result = run("doctor", HTTPS_PROXY=f"http://user:secret@127.0.0.1:{closed_port}", HTTP_PROXY="")
    assert result.code == 1
    assert result.err == ""
    text = " ".join(result.out.split())
    assert f"warning server no server listens at http://127.0.0.1:{closed_port} To do: start it with" in text
    assert "problem proxy HTTPS_PROXY: the proxy 127.0.0.1 cannot be reached" in text
    assert "To do: correct or unset HTTPS_PROXY" in text
    assert "warning registry registry.ollama.ai cannot be reached" in text
    assert "secret" not in text


def test_another_program_on_the_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        run = runner(tmp_path, f"http://127.0.0.1:{port}")

        def greet() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"SSH-2.0-x\r\n")
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        records = [json.loads(line) for line in run("doctor", "--json").out.splitlines()]
        thread.join()
    server = next(record for record in records if record["subject"] == "server")
    assert server["level"] == "problem"
    assert server["remedy"].startswith(f"another program has the port {port}: stop it, or set OLLAMA_HOST=")


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "OMP_WAIT_POLICY=active"),
        ({"OMP_THREAD_LIMIT": "1"}, "OMP_THREAD_LIMIT=1 leaves processors unused"),
        ({"OMP_PROC_BIND": "close"}, "OMP_PROC_BIND binds the threads"),
    ],
)
def test_traps_of_openmp(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], text: str) -> None:
    monkeypatch.setattr(devices, "usable_processors", lambda: 8)
    [finding] = found(devices.threads(variables), "OpenMP")
    assert finding.level == "warning"
    assert text in finding.text
    assert finding.remedy.startswith("unset ")
    assert not found(devices.threads({"OMP_WAIT_POLICY": "passive", "OMP_PROC_BIND": "false"}), "OpenMP")


def test_a_limit_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_processors", lambda: 8)
    monkeypatch.setattr(devices, "free_threads", lambda: 31)
    [finding] = devices.threads({})
    assert (finding.level, finding.text) == (
        "warning",
        "a model takes up to 32 threads, and only 31 more can be started",
    )
    monkeypatch.setattr(devices, "free_threads", lambda: 32)
    assert [finding.level for finding in devices.threads({})] == ["ok"]


def test_amx_code_in_llama_cpp() -> None:
    [finding] = devices.instructions({"amx": True})
    assert "-mno-amx-int8" in finding.remedy
    assert list(devices.instructions({"amx": False})) == []


UNAVAILABLE = {"available": False, "reason": "built without it", "devices": []}
CPU = {"name": "cpu", "available": True, "reason": "", "devices": [{"name": "CPU", "description": "Chip"}]}


@pytest.fixture
def pci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the PCI devices, which has a network card of NVIDIA."""
    monkeypatch.setattr(devices, "_PCI", tmp_path / "pci")
    monkeypatch.setattr(sys, "platform", "linux")
    add_device(tmp_path / "pci/0", "0x020000", "0x10de")
    return tmp_path / "pci"


def add_device(folder: Path, kind: str, vendor: str) -> None:
    folder.mkdir(parents=True)
    (folder / "class").write_text(f"{kind}\n")
    (folder / "vendor").write_text(f"{vendor}\n")


def test_backends_without_a_device_are_no_fault(pci: Path) -> None:
    report: dict[str, Any] = {"backends": [{"name": "cuda", **UNAVAILABLE}, CPU]}
    assert list(devices.backends(report)) == [
        Finding("ok", "backend", "cpu: Chip"),
        Finding("ok", "backend", "cuda: no such device on this machine"),
    ]


def test_a_gpu_that_llama_cpp_was_built_without(pci: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_device(pci / "1", "0x030200", "0x1002")
    monkeypatch.setattr(devices, "_is_built", lambda name: False)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    report: dict[str, Any] = {"backends": [{"name": "rocm", **UNAVAILABLE}, CPU]}
    [finding] = [one for one in devices.backends(report) if one.level == "warning"]
    assert finding.text == "rocm is not available: built without it"
    assert finding.remedy.startswith("CMAKE_ARGS=-DGGML_HIP=on pip install ")


def test_a_foreign_backend_and_none_at_all() -> None:
    report: dict[str, Any] = {"backends": [{"name": "own", **UNAVAILABLE}]}
    assert [finding.level for finding in devices.backends(report)] == ["warning", "problem"]
    [failed] = devices.backends({"failure": "the backends cannot be listed"})
    assert failed.level == "problem"


def test_a_key_that_others_can_read(tmp_path: Path) -> None:
    key = tmp_path / "id_ed25519"
    key.write_text("key")
    key.chmod(0o644)
    [finding] = storage.permissions(tmp_path, tmp_path / "models")
    assert finding.remedy == f"chmod 600 {key}"
    key.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert [finding.level for finding in storage.permissions(tmp_path, tmp_path / "models")] == ["ok"]


def test_files_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = tmp_path / "models/blobs/sha256-x"
    blob.parent.mkdir(parents=True)
    blob.touch()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != blob and real(path, mode))
    [finding] = storage.permissions(tmp_path, tmp_path / "models")
    assert (finding.level, finding.subject) == ("problem", "access")
    assert finding.text.startswith(f"1 blobs cannot be read, the first is {blob}")
    assert finding.remedy.startswith("sudo chown -R ")


def test_little_space_and_damaged_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blobs").mkdir()
    usage = type("Usage", (), {"free": 5_000_000_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    [little] = storage.disk(tmp_path / "none")
    assert little == Finding(
        "warning",
        "disk",
        f"5 GB free for models in {tmp_path}/none",
        "remove models (ollama rm), run ollama prune, or set OLLAMA_MODELS to a larger disk",
    )
    assert list(storage.library(tmp_path)) == []
    manifest = tmp_path / "manifests/h/n/m/t"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{")
    [damaged] = storage.library(tmp_path)
    assert (damaged.level, damaged.remedy) == ("problem", "pull or remove the model")


def test_a_registry_that_cannot_be_reached(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    [finding] = network.registry(f"127.0.0.1:{closed_port}")
    assert finding.level == "warning"
    assert finding.text.endswith("connection refused")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_lines_fit_the_terminal(columns: int) -> None:
    finding = Finding("warning", "proxy", "some words " * 30, "do this and that " * 10)
    texts = [text for _, text in lines(finding, columns)]
    assert max(map(len, texts)) < max(columns, 51)
    assert (
        " ".join(" ".join(texts).split())
        == ("warning proxy " + "some words " * 30 + "To do: " + ("do this and that " * 10)).strip()
    )
