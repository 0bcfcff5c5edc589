from pathlib import Path

import psutil

from ollama_tw.llama.host import available_memory

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
