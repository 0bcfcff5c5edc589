"""Main memory that this process may still take: the machine's, or less in a container."""

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


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
