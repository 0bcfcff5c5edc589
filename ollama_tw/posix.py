"""Functions that POSIX systems have and Windows lacks, with replacements: files, processes, limits.

The other modules do not depend on the platform, except for the package ``runner``, whose child processes only
POSIX systems have, and for what users see: consoles, the clipboard, advice.

Source: linux: sched_getaffinity(2), getrlimit(2), memfd_create(2); Documentation/admin-guide/cgroup-v2.rst.
"""

import errno
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_CGROUP = Path("/sys/fs/cgroup")

# Flags of os.open for the files of a store: symbolic links fail, children do not inherit.
if sys.platform == "win32":
    NO_FOLLOW = os.O_BINARY | os.O_NOINHERIT
    NO_BLOCK = 0
else:
    NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
    NO_BLOCK = os.O_NONBLOCK

# Serialises reads and writes at a position where the system has only the shared file position.
_seeking = threading.Lock()


# Files


def sync_directory(directory: Path) -> None:
    """Flush the entries of ``directory`` to disk, so that renames in it are durable."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_readable(descriptor: int) -> None:
    """Give an open file mode 0644; ``tempfile`` creates files that only their owner can read."""
    if sys.platform != "win32":
        os.fchmod(descriptor, 0o644)


def give_to_owner(descriptor: int, path: Path) -> None:
    """Give an open file the owner of ``path``, or of its directory, if this process may do that."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    owner = (path if path.exists() else path.parent).stat()
    with suppress(PermissionError):  # a file system without owners
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def place_new(temporary: Path, path: Path) -> None:
    """Give the file ``temporary`` the name ``path``; raises FileExistsError if there is one of that name."""
    if sys.platform == "win32":
        temporary.rename(path)  # does not replace an existing file there
    else:
        path.hardlink_to(temporary)


def pread(descriptor: int, size: int, position: int) -> bytes:
    """Read at most ``size`` bytes at ``position``; thread-safe. Raises OSError."""
    if sys.platform == "win32":
        with _seeking:
            os.lseek(descriptor, position, os.SEEK_SET)
            return os.read(descriptor, size)
    return os.pread(descriptor, size, position)


def pwrite(descriptor: int, data: bytes | memoryview, position: int) -> int:
    """Write ``data`` at ``position`` and return the number of bytes written; thread-safe. Raises OSError."""
    if sys.platform == "win32":
        with _seeking:
            os.lseek(descriptor, position, os.SEEK_SET)
            return os.write(descriptor, data)
    return os.pwrite(descriptor, data, position)


def memory_file(name: str, size: int) -> int:
    """Return the descriptor of a file of ``size`` bytes that has no path; on Linux it is in memory."""
    if sys.platform == "linux":
        descriptor = os.memfd_create(name)
        os.ftruncate(descriptor, size)
        return descriptor
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return os.dup(file.fileno())


# Processes and their limits


def usable_processors() -> int:
    """Return the number of logical processors that this process may use."""
    return len(usable_processor_numbers())


def usable_processor_numbers() -> frozenset[int]:
    """Return the numbers of the logical processors that this process may use."""
    if sys.platform == "linux":
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


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
    import psutil

    processes = psutil.process_iter(["uids", "num_threads"])
    return sum(
        process.info["num_threads"] or 1
        for process in processes
        if process.info["uids"] is not None and process.info["uids"].real == user
    )


def lower_priority(niceness: int) -> None:
    """Add ``niceness`` to that of this process."""
    if sys.platform != "win32":
        os.nice(niceness)


def detached() -> dict[str, Any]:
    """Return the arguments of Popen with which a process outlives this one, and gets none of its signals."""
    if sys.platform == "win32":
        import subprocess

        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def become(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by ``program``; on Windows, run it and exit with its status."""
    if sys.platform != "win32":
        os.execve(program, [program, *arguments], environment)  # noqa: S606 - the program that the user named
    import subprocess

    done = subprocess.run([program, *arguments], env=environment, check=False)  # noqa: S603 - as above
    sys.exit(done.returncode)


# Sockets


def has_unix_sockets() -> bool:
    """Return whether processes can be connected by Unix sockets, over which descriptors cross."""
    return sys.platform != "win32" and hasattr(socket, "AF_UNIX")


def send_datagram(address: str, data: bytes) -> None:
    """Send ``data`` to the Unix socket at ``address`` without waiting. Raises OSError."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "no Unix sockets")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(data, address)


def send_with_descriptors(connection: socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    """Send all of ``data``, and descriptors beside it, over a Unix socket. Raises OSError."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "descriptors do not cross between processes of Windows")
    sent = socket.send_fds(connection, [data], descriptors) if descriptors else 0
    connection.sendall(data[sent:] if sent else data)
