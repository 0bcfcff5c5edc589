"""Rounding of the context when a model is loaded again for a longer one."""

from dataclasses import replace
from functools import partial

import pytest

from ollama_tw.engine.context_growth import with_room_to_grow
from ollama_tw.engine.memory import DoesNotFit, LayerShape, ModelShape, place_layers
from ollama_tw.interfaces import Device, LoadPlan

MIB = 1 << 20
KIB = 1 << 10

SHAPE = ModelShape(
    layers=(LayerShape(weights=MIB, key_width=256, value_width=256),) * 4,
    input_weights=0,
    output_weights=0,
    tied=False,
    embedding_length=0,
    feed_forward_length=0,
    head_count=1,
    vocabulary=0,
    trained_context=8192,
)
"""Four layers of 1 MiB, whose caches take 1 KiB for each token."""


def grown(asked: int, *devices: Device) -> LoadPlan:
    place = partial(place_layers, SHAPE, devices=devices)
    return with_room_to_grow(SHAPE, LoadPlan("/m", context_length=asked), place)


def cpu(free: int) -> Device:
    return Device("CPU", "", "cpu", free, free)


@pytest.mark.parametrize(
    ("asked", "given"), [(4100, 8192), (4096, 4096), (300, 512), (8192, 8192), (5000, 8192), (9000, 9000)]
)
def test_the_context_is_the_next_power_of_two_up_to_the_trained_length(asked: int, given: int) -> None:
    assert grown(asked, cpu(1 << 40)).context_length == given


def test_without_the_memory_the_context_is_the_one_asked_for() -> None:
    # The weights and 4 × 4100 KiB fit, 4 × 8192 KiB do not.
    assert grown(4100, cpu(30 * MIB)).context_length == 4100
    with pytest.raises(DoesNotFit):
        grown(4100, cpu(10 * MIB))


def test_a_longer_context_takes_no_layer_from_the_gpu() -> None:
    host = cpu(1 << 40)
    gpu = Device("GPU", "", "gpu", 300 * MIB, 300 * MIB)
    assert (grown(4100, host, gpu).context_length, grown(4100, host, gpu).gpu_layers) == (8192, 5)
    small = replace(gpu, total=285 * MIB, free=285 * MIB)
    assert (grown(4100, host, small).context_length, grown(4100, host, small).gpu_layers) == (4100, 5)
