"""Devices of llama.cpp that each of the built-in backends uses."""

from typing import Any

import pytest

from ollama_tw.engine.backends import DiscoveredBackend, choose
from ollama_tw.interfaces import Device, IBackend, LoadPlan
from ollama_tw.llama import discovery, operations
from ollama_tw.llama.native import NativeDevice
from ollama_tw.plugins import cpu, cuda, gpu, metal, rocm, vulkan

ALL: list[IBackend] = [module.backend for module in (cuda, rocm, metal, vulkan, gpu, cpu)]


def native(library: str, name: str, kind: str) -> NativeDevice:
    return NativeDevice(1, library, Device(name, f"a {name}", kind, 10, 20))


CPU = native("cpu", "CPU", "cpu")
BLAS = native("blas", "BLAS", "accel")


def probes(monkeypatch: pytest.MonkeyPatch, *devices: NativeDevice) -> dict[str, tuple[str, ...]]:
    """Return the device names of each available backend when llama.cpp lists ``devices``."""
    monkeypatch.setattr(discovery, "_enumeration", None)
    monkeypatch.setattr(operations, "devices", lambda: list(devices))
    found = {one.name: one.probe() for one in ALL}
    return {
        name: tuple(device.name for device in probe.devices)
        for name, probe in found.items()
        if probe.available
    }


@pytest.mark.parametrize(
    ("library", "kind", "names"),
    [
        ("cuda", "gpu", {"cuda", "gpu", "cpu"}),
        ("rocm", "gpu", {"rocm", "gpu", "cpu"}),
        ("mtl", "igpu", {"metal", "gpu", "cpu"}),
        ("vulkan", "igpu", {"vulkan", "gpu", "cpu"}),
        ("sycl", "gpu", {"gpu", "cpu"}),
    ],
)
def test_a_gpu_belongs_to_the_backend_of_its_library_and_to_gpu(
    monkeypatch: pytest.MonkeyPatch, library: str, kind: str, names: set[str]
) -> None:
    found = probes(monkeypatch, BLAS, native(library, "GPU0", kind), CPU)
    assert set(found) == names
    assert found.pop("cpu") == ("CPU",)
    assert set(found.values()) == {("GPU0", "CPU")}


def test_without_a_gpu_only_the_cpu_backend_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probes(monkeypatch, BLAS, CPU) == {"cpu": ("CPU",)}
    assert metal.backend.probe().reason == (
        "the installed llama-cpp-python was built without metal (it has: blas, cpu), or found no such device"
    )


def test_the_library_of_the_device_has_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [native("vulkan", "V", "gpu"), native("cuda", "C", "gpu"), CPU]
    monkeypatch.setattr(discovery, "_enumeration", None)
    monkeypatch.setattr(operations, "devices", lambda: devices)
    found = sorted(
        (DiscoveredBackend(one, one.probe()) for one in ALL), key=lambda one: -one.backend.priority
    )
    assert choose(found).name == "cuda"
    assert choose(found, "vulkan").name == "vulkan"
    del devices[1]
    found = [DiscoveredBackend(one.backend, one.backend.probe()) for one in found]
    assert choose(found).name == "vulkan"


@pytest.mark.parametrize(
    ("backend", "used"),
    [(cuda.backend, ["C"]), (gpu.backend, ["V", "C"]), (cpu.backend, []), (rocm.backend, [])],
)
def test_a_model_is_loaded_onto_the_gpus_of_the_backend(
    monkeypatch: pytest.MonkeyPatch, backend: IBackend, used: list[str]
) -> None:
    def runner(plan: LoadPlan, devices: list[NativeDevice], progress: Any) -> Any:
        return [one.device.name for one in devices]

    monkeypatch.setattr(
        operations, "devices", lambda: [native("vulkan", "V", "gpu"), BLAS, native("cuda", "C", "gpu"), CPU]
    )
    monkeypatch.setattr(operations, "LlamaRunner", runner)
    loaded: Any = backend.load(LoadPlan(""), lambda done: True)
    assert loaded == used
