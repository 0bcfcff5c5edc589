"""Command line and environment of child processes."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_NEEDED = (
    # The system and the C library.
    *(
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "TMPDIR",
        "TEMP",
        "TMP",
        "SYSTEMROOT",
        "WINDIR",
        "LANG",
        "LC_*",
        "TZ",
    ),
    *("LD_LIBRARY_PATH", "DYLD_*", "MALLOC_*", "GLIBC_*", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"),
    # Python and what tests measure in it.
    *("PYTHON*", "VIRTUAL_ENV", "COVERAGE_*", "COV_*"),
    # Threads of the numeric libraries.
    *("OMP_*", "GOMP_*", "KMP_*", "OPENBLAS_*", "MKL_*", "BLIS_*"),
    # llama.cpp, and the drivers of GPUs.
    *("GGML_*", "LLAMA_*", "CUDA_*", "NVIDIA_*", "NV_*", "HIP_*", "HSA_*", "ROC*", "AMD_*", "GPU_*"),
    *("VK_*", "MESA_*", "RADV_*", "DRI_*", "ONEAPI_*", "SYCL_*", "ZE_*", "MTL_*", "METAL_*"),
)
"""Names of variables, or their beginnings with ``*``."""

_SPIN_COUNT = "100000"
"""Turns of the waiting loop of OpenMP's threads, some milliseconds at most. Source: docs/performance.md."""


def child_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``module`` of this installation in a child process."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(more: Iterable[str] = ()) -> Mapping[str, str]:
    """Return the environment of a child process, which imports the same code as this one.

    It has the variables that the system, the drivers and the common libraries read, and those that
    ``more`` names in the same way; no settings of the server. ``GGML_NO_BACKTRACE``: ggml would start a
    debugger when it aborts. ``GOMP_SPINCOUNT``: OpenMP's threads sleep soon after their work, unless the user
    set how they wait: threads that spin for milliseconds slow down what else runs.
    """
    wanted = (*_NEEDED, *more)
    names = {one for one in wanted if not one.endswith("*")}
    beginnings = tuple(one[:-1] for one in wanted if one.endswith("*"))
    kept = {name: value for name, value in os.environ.items() if name in names or name.startswith(beginnings)}
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    waiting = {} if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & kept.keys() else {"GOMP_SPINCOUNT": _SPIN_COUNT}
    return {**kept, **waiting, "PYTHONPATH": path, "GGML_NO_BACKTRACE": "1"}
