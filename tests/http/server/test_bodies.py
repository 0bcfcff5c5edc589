import errno
from pathlib import Path

import pytest

from ollama_tw.http.server.bodies import MEMORY_BYTES, Body, BodyBudget


def test_a_body_is_read_as_it_was_written() -> None:
    body = Body(BodyBudget(1 << 20))
    data = bytes(range(256)) * 1000
    for begin in range(0, len(data), 10_000):
        assert body.append(data[begin : begin + 10_000])
    body.seek(0)
    assert (body.size, body.read()) == (len(data), data)


def test_only_what_is_beyond_the_memory_counts() -> None:
    budget = BodyBudget(100)
    first, second = Body(budget), Body(budget)
    assert first.append(bytes(MEMORY_BYTES))
    assert budget.used == 0
    assert first.append(bytes(60))
    assert not second.append(bytes(MEMORY_BYTES + 41))
    assert budget.used == 60
    first.close()
    first.close()
    assert budget.used == 0
    assert second.append(bytes(MEMORY_BYTES + 41))


def test_a_full_disk_refuses_the_body(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    budget = BodyBudget(1 << 20)
    body = Body(budget)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert not body.append(bytes(MEMORY_BYTES + 1))
    body.close()
    assert budget.used == 0
