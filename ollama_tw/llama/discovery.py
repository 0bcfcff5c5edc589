"""Devices of llama.cpp for the probes of the backends, found by child processes.

The server thus does not hold the library and its memory, a driver that crashes while it is initialised
ends the child only, and the first child works while the server is imported. Does not import llama.cpp.
"""

import json
import time
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from ollama_tw.interfaces import Device, Probe
from ollama_tw.llama.host import available_memory
from ollama_tw.runner.environment import child_command, child_environment
from ollama_tw.runner.supervisor import ChildProcess, signal_name

Libraries = tuple[str, ...] | None
"""Names of the ggml backends whose GPUs are used, in lower case; None for all."""

GPU_KINDS = ("gpu", "igpu")

# Seconds for the child; drivers of several GPUs take some of them. Less than the limit of a probe.
_TIMEOUT = 18.0
_POLL = 0.2

# Seconds for which a list is used again: the backends are probed one after another.
_MAX_AGE = 1.0


@dataclass(frozen=True)
class FoundDevice:
    """A device; ``library`` is its ggml backend in lower case (``cpu``, ``cuda``, ``mtl``, ``vulkan``)."""

    library: str
    device: Device


@dataclass(frozen=True)
class Discovery:
    """Devices of the installed llama.cpp; ``reason`` is why it cannot be used, "" if it can."""

    devices: tuple[FoundDevice, ...] = ()
    reason: str = ""

    def probe(self, name: str, libraries: Libraries) -> Probe:
        """Return the GPUs of ``libraries`` and the CPU, which computes the layers that GPUs do not hold.

        The backend ``name`` is unavailable if it uses GPUs and there are none, or if the installed
        llama-cpp-python cannot be used.
        """
        if self.reason:
            return Probe(reason=self.reason)
        gpus = [
            found.device
            for found in self.devices
            if found.device.kind in GPU_KINDS and (libraries is None or found.library in libraries)
        ]
        if gpus or libraries == ():
            processors = [found.device for found in self.devices if found.device.kind == "cpu"]
            return Probe(tuple(gpus + processors))
        built = ", ".join(sorted({found.library for found in self.devices}))
        return Probe(
            reason=f"the installed llama-cpp-python was built without {name} (it has: {built}), "
            "or found no such device"
        )


class Enumeration:
    """Lists the devices in a child process, which begins with the constructor; later ones when needed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._discovery: Discovery | None = None
        self._made = 0.0
        self._child = self._start()

    @staticmethod
    def _start() -> ChildProcess:
        return ChildProcess(child_command("ollama_tw.llama.list_devices"), child_environment())

    def result(self) -> Discovery:
        """Return the devices with the memory that is free now. Blocks while a child lists them.

        The free memory of GPUs is listed by a new child, unless the last list is less than a second old.
        The child is killed after 18 seconds.
        """
        with self._lock:
            if self._discovery is None:
                self._discovery = self._wait()
            elif any(found.device.kind in GPU_KINDS for found in self._discovery.devices):
                if time.monotonic() - self._made > _MAX_AGE:
                    self._child = self._start()
                    self._discovery = self._wait()
            else:
                self._discovery = replace(
                    self._discovery, devices=tuple(map(_with_free_memory, self._discovery.devices))
                )
            return self._discovery

    def _wait(self) -> Discovery:
        """Return what the child found."""
        deadline = time.monotonic() + _TIMEOUT
        output = ""
        for line in self._child.lines(_POLL):
            output = line if line.startswith("{") else output
            if time.monotonic() > deadline:
                self._child.kill()
                self._child.reap()
                return Discovery(
                    reason=f"the devices of llama.cpp were not listed within {_TIMEOUT:g} seconds"
                )
        self._made = time.monotonic()
        return _read(output, self._child.reap().status)


def _with_free_memory(found: FoundDevice) -> FoundDevice:
    if found.device.kind != "cpu":
        return found
    return replace(found, device=replace(found.device, free=available_memory()))


def _read(output: str, status: int) -> Discovery:
    if status < 0:
        return Discovery(reason=f"llama.cpp crashed while its devices were listed ({signal_name(-status)})")
    try:
        listing: dict[str, Any] = json.loads(output)
        devices = tuple(
            FoundDevice(entry.pop("library"), Device(**entry)) for entry in listing.get("devices", ())
        )
        return Discovery(devices, listing.get("reason", ""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Discovery(reason=f"the devices of llama.cpp could not be listed (exit status {status})")


_enumeration: Enumeration | None = None


def begin() -> None:
    """Start the first child; from now on child processes list the devices."""
    global _enumeration
    if _enumeration is None:
        _enumeration = Enumeration()


def under_way() -> Enumeration | None:
    """Return the enumeration that :func:`begin` started, None without one."""
    return _enumeration
