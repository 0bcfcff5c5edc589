"""Devices of llama.cpp for the first probe of the backends, found by a child process.

A server without a loaded model thus does not hold the library and its memory, a driver that crashes
while it is initialised ends the child only, and the child works while the server is imported. Does not
import llama.cpp.
"""

import json
import signal
import subprocess
from dataclasses import dataclass
from threading import Lock
from typing import Any

from ollama_tw.interfaces import Device, Probe
from ollama_tw.llama.child import child_command, child_environment

Libraries = tuple[str, ...] | None
"""Names of the ggml backends whose GPUs are used, in lower case; None for all."""

GPU_KINDS = ("gpu", "igpu")

# Seconds for the child; drivers of several GPUs take some of them. Less than the limit of a probe.
_TIMEOUT = 18.0


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
    """A child process that lists the devices."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._discovery: Discovery | None = None
        self._child = subprocess.Popen(  # noqa: S603 - a fixed module of this package
            child_command("ollama_tw.llama.list_devices"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,
        )

    def result(self) -> Discovery:
        """Return what the child found; blocks until it ends, and kills it after 18 seconds."""
        with self._lock:
            if self._discovery is None:
                try:
                    output, _ = self._child.communicate(timeout=_TIMEOUT)
                except subprocess.TimeoutExpired:
                    self._child.kill()
                    self._child.communicate()
                    reason = f"the devices of llama.cpp were not listed within {_TIMEOUT:g} seconds"
                    self._discovery = Discovery(reason=reason)
                else:
                    self._discovery = _read(output, self._child.returncode)
            return self._discovery


def _read(output: bytes, status: int) -> Discovery:
    if status < 0:
        return Discovery(reason=f"llama.cpp crashed while its devices were listed ({_signal(-status)})")
    try:
        listing: dict[str, Any] = json.loads(output)
        devices = tuple(
            FoundDevice(entry.pop("library"), Device(**entry)) for entry in listing.get("devices", ())
        )
        return Discovery(devices, listing.get("reason", ""))
    except (ValueError, TypeError, KeyError):
        return Discovery(reason=f"the devices of llama.cpp could not be listed (exit status {status})")


def _signal(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


_enumeration: Enumeration | None = None


def begin() -> None:
    """Start the child, whose result the first probe of each backend then uses."""
    global _enumeration
    if _enumeration is None:
        _enumeration = Enumeration()


def under_way() -> Enumeration | None:
    """Return the child that :func:`begin` started, None without one."""
    return _enumeration
