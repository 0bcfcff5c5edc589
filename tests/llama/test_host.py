"""Available main memory, and freed memory that is returned to the system."""

import ctypes
import platform
from pathlib import Path

import psutil
import pytest

from ollama_tw.llama.host import available_memory, return_freed_memory

GIB = 1 << 30


def _cgroup(path: Path, limit: str, current: int, cache: int) -> Path:
    (path / "memory.max").write_text(f"{limit}\n")
    (path / "memory.current").write_text(f"{current}\n")
    (path / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    return path


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    assert available_memory(_cgroup(tmp_path, str(64 << 20), 48 << 20, 8 << 20)) == 24 << 20


def test_a_container_over_its_limit_has_nothing(tmp_path: Path) -> None:
    assert available_memory(_cgroup(tmp_path, str(64 << 20), 80 << 20, 0)) == 0


def test_no_limit_is_the_machine(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    for cgroup in (_cgroup(tmp_path, "max", 0, 0), tmp_path / "absent"):
        assert total // 100 < available_memory(cgroup) <= total


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries return memory without malloc_trim"
)
def test_freed_memory_is_returned_to_the_system() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    process = psutil.Process()
    # Small enough not to be mapped one by one; the last one prevents the heap from shrinking.
    blocks = [ctypes.c_void_p(library.malloc(ctypes.c_size_t(65536))) for _ in range(1000)]
    for block in blocks:
        ctypes.memset(block, 1, 65536)
    for block in blocks[:-1]:
        library.free(block)
    before = process.memory_info().rss
    return_freed_memory()
    assert before - process.memory_info().rss > 50_000_000
    library.free(blocks[-1])
