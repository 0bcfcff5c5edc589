"""Backends and their devices, and the traps of llama.cpp's threads and instructions. Blocking.

Source: docs/operating.md, docs/performance.md (AMX, OpenMP); linux: Documentation/ABI/testing/sysfs-bus-pci.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ollama_tw.cli.child import last_line, run_module
from ollama_tw.cli.doctor.findings import Finding
from ollama_tw.posix import free_threads, usable_processors

_TIMEOUT_SECONDS = 60.0
_PCI = Path("/sys/bus/pci/devices")
_NVIDIA, _AMD, _INTEL = "0x10de", "0x1002", "0x8086"
_DISPLAY_CLASS = "0x03"
_VENDORS = {"cuda": {_NVIDIA}, "rocm": {_AMD}, "vulkan": {_NVIDIA, _AMD, _INTEL}}
_BUILT_IN = ("cuda", "rocm", "metal", "vulkan", "gpu")
_GGML_NAMES = {"cuda": "cuda", "rocm": "hip", "vulkan": "vulkan", "metal": "metal"}
_BUILD_FLAGS = {
    "cuda": "-DGGML_CUDA=on",
    "rocm": "-DGGML_HIP=on",
    "vulkan": "-DGGML_VULKAN=on",
    "metal": "-DGGML_METAL=on",
}
_NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
_REINSTALL = (
    "pip install --no-cache-dir --force-reinstall --no-deps --no-binary llama-cpp-python llama-cpp-python"
)
# A model has at most this many teams of threads, of as many threads as there are processors.
_TEAMS = 4


def examine() -> dict[str, Any]:
    """Return what a child process finds: ``backends``, and ``amx``; ``failure`` if it did not end well."""
    try:
        done = run_module("ollama_tw.engine.examine", timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return {"failure": f"the backends were not listed within {_TIMEOUT_SECONDS:g} seconds"}
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        try:
            found |= json.loads(line)
        except (ValueError, TypeError, RecursionError):
            continue
    if "backends" not in found:
        reason = last_line(done.stderr)
        found["failure"] = f"the backends cannot be listed (exit status {done.returncode}): {reason}"
    return found


def backends(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Report each backend: its devices, or why it is not available and whether it could be."""
    if "failure" in found:
        yield Finding("problem", "backends", found["failure"], "reinstall the package and llama-cpp-python")
        return
    entries = found["backends"]
    absent = []
    for entry in entries:
        name = entry["name"]
        if entry["available"]:
            devices = ", ".join(_device(device) for device in entry["devices"])
            yield Finding("ok", "backend", f"{name}: {devices or 'available'}")
        elif remedy := _remedy(name):
            yield Finding("warning", "backend", f"{name} is not available: {entry['reason']}", remedy)
        elif name in _BUILT_IN:
            absent.append(name)
        else:
            yield Finding("warning", "backend", f"{name} is not available: {entry['reason']}")
    if absent:
        yield Finding("ok", "backend", f"{', '.join(absent)}: no such device on this machine")
    if not any(entry["available"] for entry in entries):
        reason = entries[0]["reason"] if entries else "none is installed"
        yield Finding("problem", "backends", f"no model can run: {reason}", _REINSTALL)


def instructions(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Report a llama.cpp that was built with AMX instructions."""
    if found.get("amx"):
        yield Finding(
            "warning",
            "AMX",
            "llama.cpp was built with AMX instructions, which GCC 12 miscompiles: they are not used",
            f'CFLAGS="{_NO_AMX}" CXXFLAGS="{_NO_AMX}" {_REINSTALL}',
        )


def threads(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Report limits of threads, and variables that make OpenMP's threads wait for each other."""
    processors = usable_processors()
    free = free_threads()
    if free is not None and free < _TEAMS * processors:
        yield Finding(
            "warning",
            "threads",
            f"a model takes up to {_TEAMS * processors} threads, and only {free} more can be started",
            "raise the limit of processes (ulimit -u, TasksMax= of a unit, --pids-limit of a container)",
        )
    else:
        yield Finding("ok", "threads", f"{processors} processors")
    if environ.get("OMP_WAIT_POLICY", "").lower() == "active":
        yield Finding(
            "warning",
            "OpenMP",
            "OMP_WAIT_POLICY=active: waiting threads spin, and a model beside other programs has a tenth of "
            "its speed",
            "unset OMP_WAIT_POLICY unless nothing else runs on this machine",
        )
    for name in ("OMP_THREAD_LIMIT", "OMP_NUM_THREADS"):
        value = environ.get(name, "")
        if value.isdecimal() and int(value) < processors:
            yield Finding("warning", "OpenMP", f"{name}={value} leaves processors unused", f"unset {name}")
    for name in ("GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_PROC_BIND", "OMP_PLACES"):
        if environ.get(name, "").lower() not in ("", "false", "none", "disabled"):
            yield Finding(
                "warning",
                "OpenMP",
                f"{name} binds the threads of every model to the same processors",
                f"unset {name} where several models run at the same time",
            )


def _device(device: Mapping[str, Any]) -> str:
    text = device.get("description") or device["name"]
    total, free = device.get("total") or 0, device.get("free") or 0
    return f"{text} ({free / 2**30:.1f} of {total / 2**30:.1f} GiB free)" if total else str(text)


def _remedy(name: str) -> str:
    """Return how a backend could become available, "" if this machine has no device for it."""
    if name == "metal" and sys.platform == "darwin":
        return f"CMAKE_ARGS={_BUILD_FLAGS[name]} {_REINSTALL}"
    if name not in _VENDORS or not _display_vendors() & _VENDORS[name]:
        return ""
    if name == "cuda" and not Path("/proc/driver/nvidia/version").exists():
        return "install the NVIDIA driver: the device is present"
    if name == "rocm" and Path("/dev/kfd").exists() and not os.access("/dev/kfd", os.R_OK | os.W_OK):
        return "add the user to the groups render and video, which may use /dev/kfd"
    if not _is_built(name):
        return f"CMAKE_ARGS={_BUILD_FLAGS[name]} {_REINSTALL}"
    return "check that the driver of the device works for this user (nvidia-smi, rocminfo, vulkaninfo)"


def _display_vendors() -> set[str]:
    """Return the vendors of the display controllers; on systems other than Linux none are known."""
    vendors = set()
    for device in _PCI.glob("*") if sys.platform == "linux" else ():
        try:
            if (device / "class").read_text().startswith(_DISPLAY_CLASS):
                vendors.add((device / "vendor").read_text().strip())
        except OSError:
            continue
    return vendors


def _is_built(name: str) -> bool:
    """Return whether the installed llama.cpp has the ggml library of a backend."""
    spec = find_spec("llama_cpp")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return any(any(Path(folder, "lib").glob(f"*ggml-{_GGML_NAMES[name]}*")) for folder in folders)
