"""Processors and limits of this process on POSIX systems, with replacements elsewhere.

Source: linux: sched_getaffinity(2), getrlimit(2); Documentation/admin-guide/cgroup-v2.rst.
"""

import os
import sys
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def usable_processors() -> int:
    """Return the number of logical processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_threads(cgroup: Path = _CGROUP) -> int | None:
    """Return the number of threads that this process may still start, None if no limit is known.

    Linux counts the threads of all processes of the user, and of the ``cgroup`` (version 2).
    """
    if sys.platform != "linux":
        return None
    import resource

    left = []
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit != resource.RLIM_INFINITY and os.geteuid():
        left.append(limit - _threads_of_user(os.getuid()))
    try:
        left.append(int((cgroup / "pids.max").read_text()) - int((cgroup / "pids.current").read_text()))
    except (OSError, ValueError):
        # No cgroup of version 2, or "max".
        pass
    return max(0, min(left)) if left else None


def _threads_of_user(user: int) -> int:
    processes = psutil.process_iter(["uids", "num_threads"])
    return sum(
        process.info["num_threads"] or 1
        for process in processes
        if process.info["uids"] is not None and process.info["uids"].real == user
    )
