"""Devices that a child process lists for the first probe of the backends."""

import json
import signal
import sys
from pathlib import Path

import pytest

from ollama_tw.interfaces import Probe
from ollama_tw.llama import discovery
from ollama_tw.llama.backend import LlamaBackend


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let a child that runs ``code`` list the devices."""
    monkeypatch.setattr(discovery, "_enumeration", None)
    monkeypatch.setattr(discovery, "child_command", lambda _: [sys.executable, "-c", code])
    discovery.begin()


def listing(*devices: dict[str, object], reason: str = "") -> str:
    return f"print({json.dumps({'reason': reason, 'devices': devices})!r})"


CPU = {"library": "cpu", "name": "CPU", "description": "a CPU", "kind": "cpu", "free": 3, "total": 4}
GPU = {"library": "cuda", "name": "CUDA0", "description": "a GPU", "kind": "gpu", "free": 1, "total": 2}


def probe(name: str = "gpu", libraries: tuple[str, ...] | None = None) -> Probe:
    return LlamaBackend(name, 0, libraries).probe()


def test_the_first_probe_has_the_devices_of_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, listing(CPU, GPU))
    assert [device.name for device in probe().devices] == ["CUDA0", "CPU"]
    assert [device.name for device in probe("cpu", ()).devices] == ["CPU"]
    assert not probe("rocm", ("rocm",)).available


def test_later_probes_have_the_memory_that_is_free_then(monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, listing(CPU))
    backend = LlamaBackend("cpu", 0, ())
    assert backend.probe().devices[0].free == 3
    monkeypatch.setattr(discovery, "available_memory", lambda: 2)
    assert backend.probe().devices[0].free == 2


def test_gpus_are_listed_again_by_another_child(monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, listing(CPU, GPU))
    monkeypatch.setattr(discovery, "_MAX_AGE", -1.0)
    assert probe().devices[0].free == 1
    code = listing(CPU, {**GPU, "free": 2})
    monkeypatch.setattr(discovery, "child_command", lambda _: [sys.executable, "-c", code])
    assert probe().devices[0].free == 2


def test_a_reason_of_the_child_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, listing(reason="it lacks a field"))
    assert probe().reason == "it lacks a field"


def test_a_child_that_crashes_makes_the_backend_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    assert probe().reason == "llama.cpp crashed while its devices were listed (SIGSEGV)"


def test_a_child_without_a_listing_makes_the_backend_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, "print('{'); raise SystemExit(5)")
    assert probe().reason == "the devices of llama.cpp could not be listed (exit status 5)"


def test_the_real_child_lists_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_enumeration", None)
    discovery.begin()
    assert "cpu" in {device.kind for device in probe("cpu", ()).devices}


def test_a_broken_llama_cpp_is_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise ImportError('no libllama')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(discovery, "_enumeration", None)
    discovery.begin()
    assert probe().reason == "llama-cpp-python cannot be used: ImportError: no libllama"
