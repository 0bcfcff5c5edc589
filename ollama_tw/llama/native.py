"""Process-wide llama.cpp state: initialisation, log capture, device enumeration."""

import ctypes
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import llama_cpp
from llama_cpp import _ggml

from ollama_tw.interfaces import Device
from ollama_tw.llama.host import available_memory, limit_arenas

_log = logging.getLogger("ollama_tw.llama")

# enum ggml_log_level; CONT continues the line before.
_LEVELS = {2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_ERROR = 4
_CONT = 5

# enum ggml_backend_dev_type
_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}

# "load_tensors:   CPU_Mapped model buffer size =    98.87 MiB"; texts of the model file are in other lines.
_BUFFER = " buffer size = "
_MAX_BUFFER_LINE = 200


@dataclass
class LoadReport:
    """Buffer sizes and errors in llama.cpp's log while a model is loaded."""

    buffers: dict[str, int] = field(default_factory=dict)
    """Bytes by llama.cpp's name of the device ('CPU', 'CUDA0')."""
    errors: list[str] = field(default_factory=list)

    def note(self, level: int, line: str) -> None:
        """Add a log line."""
        if level == _ERROR:
            self.errors.append(line)
        elif _BUFFER in line and len(line) < _MAX_BUFFER_LINE:
            self._note_buffer(*line.split(_BUFFER, 1))

    def _note_buffer(self, before: str, after: str) -> None:
        words, number = before.partition(": ")[2].split(), after.partition(" MiB")[0]
        try:
            size = int(float(number) * (1 << 20))
        except (ValueError, OverflowError):
            return
        if words:
            self.buffers[words[0]] = self.buffers.get(words[0], 0) + size


_report: LoadReport | None = None
_report_lock = threading.Lock()


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def receive_log(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    """Pass log lines of llama.cpp and its libraries to our log and the load report. On any thread."""
    line = text.decode("utf-8", "replace").rstrip()
    if not line or level == _CONT:
        return
    # Read once: another thread may end the report.
    report = _report
    if report is not None:
        report.note(level, line)
    # llama.cpp's INFO lines are for its developers.
    severity = _LEVELS.get(level, logging.DEBUG)
    _log.log(logging.DEBUG if severity == logging.INFO else severity, "%s", line)


@contextmanager
def load_report() -> Iterator[LoadReport]:
    """Collect llama.cpp's log until the block ends. A second report waits for the end of the first."""
    global _report
    with _report_lock:
        _report = LoadReport()
        try:
            yield _report
        finally:
            _report = None


@cache
def initialise() -> None:
    """Initialise llama.cpp. Called before any other function of it; further calls have no effect."""
    limit_arenas()
    llama_cpp.llama_log_set(receive_log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()


@cache
def uses_amx() -> bool:
    """Return whether llama.cpp was built to use the CPU's AMX unit.

    GCC before version 13 drops the stores that configure it, and the process crashes at the first
    batch; a build does not record its compiler. llama.cpp's extra buffer types, which use the unit, are
    therefore disabled in such a build.
    """
    initialise()
    compiled_in = b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info()
    if compiled_in:
        _log.warning(
            "llama-cpp-python was built with AMX instructions, which some compilers miscompile: not used; "
            'build it with CFLAGS and CXXFLAGS="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" to avoid this'
        )
    return compiled_in


@dataclass(frozen=True)
class NativeDevice:
    """A device of llama.cpp: its pointer, the name of its ggml backend, and its description."""

    handle: int
    library: str
    """Name of the device's ggml backend in lower case: ``cpu``, ``cuda``, ``mtl``, ``vulkan`` …"""
    device: Device


def _function(name: str, restype: Any, *argtypes: Any) -> Any:
    function = getattr(_ggml.libggml, name)
    function.restype = restype
    function.argtypes = list(argtypes)
    return function


def devices() -> list[NativeDevice]:
    """Return all devices of this build of llama.cpp, with the memory that is free now."""
    initialise()
    count = _function("ggml_backend_dev_count", ctypes.c_size_t)
    get = _function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    name_of = _function("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    description_of = _function("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
    kind_of = _function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    registry_of = _function("ggml_backend_dev_backend_reg", ctypes.c_void_p, ctypes.c_void_p)
    registry_name = _function("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    size = ctypes.POINTER(ctypes.c_size_t)
    memory_of = _function("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)

    found = []
    for index in range(count()):
        handle = get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory_of(handle, ctypes.byref(free), ctypes.byref(total))
        kind = _KINDS.get(kind_of(handle), "other")
        if kind == "cpu":
            # llama.cpp reports all memory as free.
            free.value = available_memory()
        device = Device(
            name=name_of(handle).decode(),
            description=description_of(handle).decode().strip(),
            kind=kind,
            free=free.value,
            total=total.value,
        )
        found.append(NativeDevice(handle, registry_name(registry_of(handle)).decode().lower(), device))
    return found
