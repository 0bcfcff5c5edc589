"""Main memory: what this process may take, the machine's or less in a container, and giving it back."""

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
    """Bytes available, at most what ``cgroup`` (version 2) leaves."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        if limit == "max":
            return available
        current = int((cgroup / "memory.current").read_text())
        fields = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        # The page cache goes when memory is wanted.
        left = int(limit) - current + int(fields.get("inactive_file", 0))
    except (OSError, ValueError):
        return available
    return max(0, min(available, left))


def return_freed_memory() -> None:
    """Have the C library return what was freed to the system, where it knows how to.

    glibc keeps it for each thread's next allocations, and every model has threads of its own: models
    that come and go would leave the process hundreds of megabytes larger.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def limit_arenas() -> None:
    """Have glibc serve all threads from two arenas, unless MALLOC_ARENA_MAX says otherwise.

    By itself it makes up to eight for each core, and what stays in use in each keeps whole pages of it.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_M_ARENA_MAX, _ARENAS)
