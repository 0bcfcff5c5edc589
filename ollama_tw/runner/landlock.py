"""Landlock: a process restricts its own access to files, TCP and processes outside.

Source: linux: Documentation/userspace-api/landlock.rst; include/uapi/linux/landlock.h.
"""

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterable

from ollama_tw.errors import reason_of

# The numbers are the same on all architectures but Alpha.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
_IOCTL_DEV = 1 << 15
# Rights on files by the version of the interface: 13 of version 1, then REFER, TRUNCATE and IOCTL_DEV.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_RIGHTS = 0b11
_TCP_VERSION = 4
_SCOPES = 0b11
_SCOPE_VERSION = 6

_READ = _READ_FILE | _READ_DIR
_WRITE = _READ_FILE | _WRITE_FILE | _TRUNCATE
_DEVICE = _READ | _WRITE_FILE | _IOCTL_DEV


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


class Unavailable(Exception):
    """The system does not have Landlock; the text is the reason."""


def _syscall(number: int, *arguments: object) -> int:
    # A library of its own: the error number of another one may be overwritten.
    library = ctypes.CDLL(None, use_errno=True)
    result: int = library.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def version() -> int:
    """Return the version of the kernel's interface. Raises :class:`Unavailable`."""
    if sys.platform != "linux":
        raise Unavailable("only Linux has Landlock")
    try:
        return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    except OSError as error:
        reasons = {errno.ENOSYS: "the kernel has no Landlock", errno.EOPNOTSUPP: "Landlock is not enabled"}
        raise Unavailable(reasons.get(error.errno or 0, reason_of(error))) from error


def forbids_tcp(interface: int) -> bool:
    """Return whether version ``interface`` restricts TCP."""
    return interface >= _TCP_VERSION


def restrict(readable: Iterable[str], writable: Iterable[str], devices: Iterable[str]) -> int:
    """Restrict this thread, and those that it starts, for ever; return the version of the interface.

    Of files, only ``readable`` ones (and what is below them) can be read, ``writable`` ones be read and
    written, and ``devices`` be read, written and controlled; nothing can be executed. TCP, and signals to
    processes outside, are forbidden where the version can do it. ``no_new_privs`` must be set. Raises
    :class:`Unavailable`, OSError.
    """
    interface = version()
    rights = (1 << _FILE_RIGHTS[min(interface, max(_FILE_RIGHTS))]) - 1
    rules = _Ruleset(
        rights,
        _TCP_RIGHTS if forbids_tcp(interface) else 0,
        _SCOPES if interface >= _SCOPE_VERSION else 0,
    )
    # An older kernel refuses a structure with fields that it does not have, unless they are zero.
    ruleset = _syscall(
        _CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), ctypes.c_uint32(0)
    )
    try:
        for paths, allowed in ((readable, _READ), (writable, _WRITE), (devices, _DEVICE)):
            for path in paths:
                _allow(ruleset, path, allowed & rights)
        _syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return interface


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Add a rule for a file, or a directory and what is below it; one that is missing is left out."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "only on Linux")
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= ~_READ_DIR
        rule = _PathRule(rights, descriptor)
        _syscall(
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_PATH_BENEATH),
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(descriptor)
