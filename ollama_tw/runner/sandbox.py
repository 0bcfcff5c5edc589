"""Confinement of a child process by itself, with what the system offers.

A measure that is missing is reported, and never a reason not to start. Called before any other thread is
started, because some of the measures are those of a thread.

Source: prctl(2), capabilities(7), proc_pid_oom_score_adj(5); docs/operating.md.
"""

import ctypes
import os
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ollama_tw.errors import reason_of
from ollama_tw.runner import landlock
from ollama_tw.runner.messages import Sandbox

if sys.platform == "win32":
    raise ImportError("a process of Windows cannot confine itself")
import resource

# linux/prctl.h, linux/capability.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION = 0x20080522
_CAP_DAC_READ_SEARCH = 2

# Added to the score of the process: the memory killer takes it before the server.
_OOM_SCORE = 500
# Descriptors, of which GPU drivers open many, and threads beside those that the user has.
_DESCRIPTORS = 4096
_THREADS = 4096

_LIBRARIES = ("/usr", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/gnu/store", "/proc", "/sys")
_CONFIGURATION = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "locale.alias", "passwd", "nsswitch.conf"),
    *("vulkan", "OpenCL", "nvidia", "nvidia-container-runtime", "drirc", "glvnd", "rocm", "amd"),
)
_DEVICES = (
    *("null", "zero", "full", "random", "urandom", "kfd", "dri", "dxg", "accel", "nvidiactl", "nvidia-caps"),
    *("nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvmap", "nvhost-gpu", "nvhost-ctrl-gpu", "mali0"),
)


def confine(files: Sequence[str], parent: int | None = None, writable: Sequence[str] = ()) -> Sandbox:
    """Confine this process, which reads ``files`` and writes the existing files ``writable``.

    It is to end with the process ``parent``, if that is given, and ends at once if that has ended.
    """
    measures: list[str] = []
    missing: list[str] = []

    def take(name: str, measure: Callable[[], str | None]) -> None:
        try:
            detail = measure()
        except (OSError, ValueError, AttributeError, landlock.Unavailable) as error:
            missing.append(f"{name} ({reason_of(error)})")
        else:
            measures.append(detail or name)

    readable = [*files, *code_directories()]
    if parent is not None:
        take("ends with the server", lambda: _end_with(parent))
    take("first to be killed when memory runs out", _prefer_for_killing)
    take("no core dumps", _dump_no_core)
    take("limit of descriptors", _limit_descriptors)
    take("limit of threads", _limit_threads)
    take("no new privileges", _forbid_privileges)
    take("no capabilities", lambda: _drop_capabilities([*readable, *writable]))
    tcp: list[str] = []

    def restrict_files() -> str:
        version = landlock.restrict(readable, writable, _devices())
        tcp.extend(["no TCP"] if landlock.forbids_tcp(version) else [])
        return "files and devices by Landlock"

    take("files and devices by Landlock", restrict_files)
    measures += tcp
    if not tcp:
        missing.append("no TCP (the kernel cannot forbid it)")
    return Sandbox(tuple(measures), tuple(missing))


def _prctl(option: int, *arguments: int) -> None:
    if sys.platform != "linux":
        raise OSError(0, "only on Linux")
    library = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_ulong(one) for one in (*arguments, 0, 0, 0, 0)[:4]]
    if library.prctl(ctypes.c_int(option), *values):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _end_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended before the call.
        os._exit(0)


def _prefer_for_killing() -> None:
    path = Path("/proc/self/oom_score_adj")
    path.write_text(str(min(int(path.read_text()) + _OOM_SCORE, 1000)))


def _dump_no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_descriptors() -> None:
    _limit(resource.RLIMIT_NOFILE, _DESCRIPTORS)


def _limit_threads() -> None:
    """Limit the threads of the user, which this limit counts, to those that there are and some more."""
    user = os.getuid()
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if process.stat().st_uid == user:
                    # The directory has a subdirectory for each thread.
                    count += (process / "task").stat().st_nlink - 2
            except OSError:
                continue
    _limit(resource.RLIMIT_NPROC, count + _THREADS)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _forbid_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _drop_capabilities(readable: Sequence[str]) -> str:
    """Drop all capabilities; keep the one to read all files if a file that is needed requires it."""
    kept = 0
    if os.geteuid() == 0 and not all(map(_root_may_read, readable)):
        kept = 1 << _CAP_DAC_READ_SEARCH
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    # Effective, permitted and inheritable ones, the lower and the higher 32.
    sets = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    library = ctypes.CDLL(None, use_errno=True)
    if library.capset(ctypes.byref(header), ctypes.byref(sets)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "no capabilities but that to read files" if kept else "no capabilities"


def _root_may_read(path: str) -> bool:
    """Return whether the modes of a file, and of the directories above it, let root read it; True if missing.

    Root without capabilities has no more rights than other users.
    """
    groups = {os.getegid(), *os.getgroups()}
    resolved = Path(path).resolve()
    for one in (resolved, *resolved.parents):
        try:
            found = one.stat()
        except OSError:
            return True
        shift = 6 if found.st_uid == 0 else 3 if found.st_gid in groups else 0
        needed = 0b001 if one != resolved else 0b101 if stat.S_ISDIR(found.st_mode) else 0b100
        if (found.st_mode >> shift) & needed != needed:
            return False
    return True


def code_directories() -> list[str]:
    """Return the files and directories with Python, its packages and the libraries."""
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    wanted = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, *filter(None, libraries)]
    etc = [f"/etc/{name}" for name in _CONFIGURATION]
    return [*_LIBRARIES, *etc, *(found for one in wanted for found in _without_home(one))]


def _without_home(directory: str) -> list[str]:
    """Return ``directory``, or what it contains if it is the home directory or contains that.

    The home directory contains keys and the files of other programs. Hidden files, and what contains the
    home directory, are left out.
    """
    home = Path(os.environ.get("HOME", "/nonexistent")).resolve()
    path = Path(directory).resolve()
    if not home.is_relative_to(path):
        return [directory]
    try:
        entries = list(path.iterdir())
    except OSError:
        return []
    return [str(one) for one in entries if not one.name.startswith(".") and not home.is_relative_to(one)]


def _devices() -> list[str]:
    numbered = [str(one) for one in Path("/dev").glob("nvidia[0-9]*")]
    return [*(f"/dev/{name}" for name in _DEVICES), *numbered]
