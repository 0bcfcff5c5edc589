"""Import the package as Windows does; run in a separate process by test_portability, and on Windows itself.

Third-party packages and the standard library are loaded first, as they are here; then the package is
imported anew with ``sys.platform`` changed, and without the modules and functions that only POSIX has.
"""

import builtins
import importlib
import os
import pkgutil
import socket
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}
POSIX_NAMES = {
    os: [
        "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "fchmod", "fork", "getuid", "killpg", "nice",
        "pread", "pwrite", "sched_getaffinity", "setsid", "statvfs", "sync",
    ],
    socket: ["AF_UNIX", "SOCK_CLOEXEC"],
}  # fmt: skip
WINDOWS_NAMES = ("O_BINARY", "O_NOINHERIT")
# Parts of child processes that host models, which other systems import only when they start one.
POSIX_ONLY = {
    f"ollama_tw.runner.{name}" for name in ("child", "connection", "link", "runner", "sandbox", "vocabulary")
}

_import = builtins.__import__


def import_module(
    name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
) -> Any:
    """Import as always, except that modules of POSIX do not exist for the package."""
    importer = (globals or {}).get("__name__", "")
    if importer.split(".")[0] == "ollama_tw" and name.split(".")[0] in POSIX_MODULES:
        raise ModuleNotFoundError(f"{importer} imports {name}", name=name)
    return _import(name, globals, locals, fromlist, level)


def import_all(without: Collection[str] = ()) -> list[ModuleType]:
    """Import every module of the package but those named."""
    package = importlib.import_module("ollama_tw")
    names = [found.name for found in pkgutil.walk_packages(package.__path__, "ollama_tw.")]
    return [
        importlib.import_module(name)
        for name in names
        if not name.endswith("__main__") and name not in without
    ]


def refuse_posix_only() -> None:
    """Import what needs POSIX, which says so."""
    for name in POSIX_ONLY:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            raise
        except ImportError:
            continue
        raise AssertionError(f"{name} was imported")


def write_and_read_at_positions(folder: str) -> None:
    """Use the replacements of the functions that Windows does not have."""
    from ollama_tw import files

    path = Path(folder, "a")
    files.make_directory(path.parent / "b" / "c")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | files.NO_FOLLOW)
    files.make_readable(descriptor)
    assert files.pwrite(descriptor, memoryview(b"world"), 6) == 5
    assert files.pwrite(descriptor, b"hello ", 0) == 6
    assert files.pread(descriptor, 5, 6) == b"world"
    assert files.pread(descriptor, 5, 11) == b""
    os.close(descriptor)
    with files.open_regular(path) as file:
        assert file.read() == b"hello world"


@contextmanager
def windows() -> Iterator[None]:
    """Change ``sys.platform``, and hide the modules and functions that only POSIX has."""
    with ExitStack() as changes:
        changes.enter_context(patch.object(sys, "platform", "win32"))
        changes.enter_context(patch.object(builtins, "__import__", import_module))
        for module, names in POSIX_NAMES.items():
            for name in names:
                if hasattr(module, name):
                    changes.enter_context(patch.object(module, name))
                    delattr(module, name)
        for name in WINDOWS_NAMES:
            changes.enter_context(patch.object(os, name, 0, create=not hasattr(os, name)))
        yield


def main() -> None:
    """Print how many modules were imported."""
    import_all()
    for name in [name for name in sys.modules if name.split(".")[0] == "ollama_tw"]:
        del sys.modules[name]
    # The standard library removes the folder by functions that only POSIX has.
    with tempfile.TemporaryDirectory() as folder, windows():
        modules = import_all(without=POSIX_ONLY)
        refuse_posix_only()
        write_and_read_at_positions(folder)
    print(len(modules) + len(POSIX_ONLY))


if __name__ == "__main__":
    main()
