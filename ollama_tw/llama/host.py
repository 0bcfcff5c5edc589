"""Main memory: the amount available to this process, and glibc's allocator.

Source: linux: Documentation/admin-guide/cgroup-v2.rst; mallopt(3) and malloc_trim(3).
"""

import ctypes
import os
import sys
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")

# malloc.h
_M_ARENA_MAX = -8

_ARENAS = 2


def available_memory(cgroup: Path = _CGROUP) -> int:
    """Return the bytes available on the machine, or within the limit of ``cgroup`` (version 2)."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        if limit == "max":
            return available
        current = int((cgroup / "memory.current").read_text())
        fields = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        # The page cache is reclaimed on demand.
        left = int(limit) - current + int(fields.get("inactive_file", 0))
    except (OSError, ValueError):
        return available
    return max(0, min(available, left))


def return_freed_memory() -> None:
    """Return freed memory to the system, if the C library is glibc.

    glibc keeps it for later allocations of the same thread, and every model has threads of its own:
    loading and unloading models would leave the process hundreds of megabytes larger.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def limit_arenas() -> None:
    """Limit glibc to two memory arenas, unless MALLOC_ARENA_MAX is set.

    The default is up to eight for each core, each of which is fragmented on its own.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_M_ARENA_MAX, _ARENAS)
