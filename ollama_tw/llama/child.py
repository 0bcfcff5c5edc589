"""Command line and environment of the child processes that call llama.cpp; does not import it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def child_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``module`` of this installation in a child process."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment() -> Mapping[str, str]:
    """Return the environment of a child process, which imports the same code as this one.

    ``GGML_NO_BACKTRACE``: ggml would start a debugger when it aborts.
    """
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "GGML_NO_BACKTRACE": "1"}
