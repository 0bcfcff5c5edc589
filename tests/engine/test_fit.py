"""Answers of ``ollama_tw.engine.fit`` for ten layers and an output layer of 100 MiB."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ollama_tw.engine import fit
from ollama_tw.engine.fit import Answer, answer
from ollama_tw.engine.memory import estimate, place_layers
from ollama_tw.gguf.reader import Header, read_header
from ollama_tw.interfaces import Device, LoadPlan
from tests.engine.test_memory import CPU, GIB, MIB, PLAN, SHAPE
from tests.helpers.gguf_files import write_gguf

SMALL = Device("CUDA0", "Small card", "gpu", 1 * GIB, 2 * GIB)
LARGE = Device("CUDA1", "Large card", "gpu", 7 * GIB, 8 * GIB)


@pytest.fixture(autouse=True)
def memory_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the main memory be read with 10 GB/s, and the processors be fast."""
    monkeypatch.setattr(fit, "_memory_rate", lambda: 10e9)
    monkeypatch.setattr(fit, "usable_processors", lambda: 64)


@pytest.fixture
def header(tmp_path: Path) -> Header:
    return read_header(write_gguf(tmp_path / "m.gguf"))


def answered(header: Header, *devices: Device, plan: LoadPlan = PLAN, extra: int = 0) -> Answer:
    shape = replace(SHAPE, extra=extra)
    return answer(header, shape, plan, devices, partial(place_layers, shape, devices=devices))


def test_the_parts_are_the_estimate_of_a_load(header: Header) -> None:
    found = answered(header, CPU, extra=7 * MIB)
    assert found.total == estimate(replace(SHAPE, extra=7 * MIB), PLAN).total()
    assert sum(found.parts.values()) == found.total
    assert found.parts["weights"] == (10 * 99 + 50 + 100) * MIB
    assert found.parts["cache"] == 10 * MIB
    assert found.parts["projector"] == 7 * MIB
    [cpu] = found.devices
    assert (cpu["layers"], cpu["used"]) == (11, found.total)


def test_a_model_on_one_gpu(header: Header) -> None:
    found = answered(header, LARGE, SMALL, CPU)
    assert [(device["name"], device["layers"]) for device in found.devices] == [
        ("CUDA1", 11),
        ("CUDA0", 0),
        ("CPU", 0),
    ]
    assert found.devices[0]["used"] > 1100 * MIB
    assert found.devices[1]["used"] == 0
    # 1,090 MiB at 300 GB/s.
    assert found.tokens_per_second == pytest.approx(300e9 / (1090 * MIB))


def test_a_model_on_gpu_and_cpu(header: Header) -> None:
    found = answered(header, SMALL, CPU)
    on_gpu, on_cpu = (device["layers"] for device in found.devices)
    assert 0 < on_gpu < 11
    assert on_gpu + on_cpu == 11
    assert found.reason == ""
    assert found.tokens_per_second < answered(header, LARGE, CPU).tokens_per_second


def test_the_longest_context_is_what_fits(header: Header) -> None:
    assert answered(header, CPU).longest_context == 8192
    # A context of 1,024 tokens takes 10 MiB.
    found = answered(header, replace(CPU, free=answered(header, CPU).total + 15 * MIB))
    assert found.reason == ""
    assert 1024 < found.longest_context < 8192
    exact = replace(PLAN, context_length=found.longest_context)
    assert answered(header, replace(CPU, free=GIB * 2), plan=exact).longest_context == 8192


def test_a_model_that_does_not_fit(header: Header) -> None:
    found = answered(header, replace(CPU, free=GIB))
    assert found.reason.startswith("model requires more system memory (1.1 GiB) than is available (1.0 GiB)")
    assert found.longest_context == 0
    plan = replace(PLAN, context_length=8192, slots=4)
    long = answered(header, replace(CPU, free=int(1.3 * GIB)), plan=plan)
    assert long.reason
    assert 0 < long.longest_context < 8192


def test_without_a_context_for_an_embedding_model(header: Header) -> None:
    shape = replace(SHAPE, generates=False)
    found = answer(header, shape, PLAN, [CPU], partial(place_layers, shape, devices=[CPU]))
    assert (found.context, found.longest_context, found.parts["cache"]) == (0, 0, 0)
