"""Placement on tables of machines, for ten layers of 100 MiB and an output layer of 100 MiB."""

from dataclasses import replace

import pytest

from ollama_tw.config.parsers import MemoryShare
from ollama_tw.engine.memory import (
    DoesNotFit,
    LayerShape,
    ModelShape,
    cache_obstacle,
    estimate,
    place_layers,
    prompt_cache_size,
)
from ollama_tw.interfaces import Device, LoadPlan

MIB = 1 << 20
GIB = 1 << 30

# The cache of a layer: 1024 cells of 2 x 256 elements of two bytes, 1 MiB.
LAYER = LayerShape(weights=99 * MIB, key_width=256, value_width=256)
SHAPE = ModelShape(
    layers=(LAYER,) * 10,
    input_weights=50 * MIB,
    output_weights=100 * MIB,
    tied=False,
    embedding_length=1024,
    feed_forward_length=4096,
    head_count=8,
    vocabulary=32768,
    trained_context=8192,
    key_length=64,
    value_length=64,
)
PLAN = LoadPlan("/model", context_length=1024, batch=512)
CPU = Device("CPU", "", "cpu", 16 * GIB, 16 * GIB)


def gpu(name: str, free: int, kind: str = "gpu") -> Device:
    return Device(name, "", kind, free * MIB, 24 * GIB)


def test_the_parts_of_an_estimate() -> None:
    found = estimate(SHAPE, PLAN)
    assert found.layers == (100 * MIB,) * 10
    assert found.output == 100 * MIB
    # 512 rows of 3 x 4096 + 4 x 1024 floats, and a mask of 1024 two-byte cells a row.
    assert found.compute == 32 * MIB + 1 * MIB
    # The logits of a token, and of 15 drafted ones.
    assert found.host == 50 * MIB + 16 * 131072
    assert estimate(SHAPE, replace(PLAN, speculation=False)).host == 50 * MIB + 131072
    assert found.total() == 1183 * MIB + 16 * 131072


def test_a_draft_model_counts_on_every_device() -> None:
    draft = replace(SHAPE, layers=SHAPE.layers[:2])
    alone, both = estimate(SHAPE, PLAN), estimate(replace(SHAPE, draft=draft), PLAN)
    # Two blocks, the output layer, the buffers, and the embeddings with the logits of a token.
    assert both.compute - alone.compute == (2 * 100 + 100 + 33 + 50) * MIB + 131072
    assert both.total() - alone.total() == both.compute - alone.compute


@pytest.mark.parametrize(
    ("change", "layer_cache"),
    [
        ({"slots": 4}, 4 * MIB),
        ({"context_length": 1000}, 1 * MIB),
        ({"context_length": 4096}, 4 * MIB),
        ({"context_length": 1 << 20}, 8 * MIB),
        ({"kv_cache_type": "q8_0"}, 557056),
        ({"kv_cache_type": "q4_0"}, 294912),
    ],
)
def test_the_cache(change: dict[str, object], layer_cache: int) -> None:
    plan = replace(PLAN, **change)  # type: ignore[arg-type]
    assert estimate(SHAPE, plan).layers[0] == 99 * MIB + layer_cache


def test_a_windowed_layer_keeps_its_window_and_a_batch() -> None:
    windowed = replace(LAYER, weights=0, windowed=True)
    shape = replace(SHAPE, layers=(windowed,), window=512)
    assert estimate(shape, replace(PLAN, context_length=8192)).layers == (1 * MIB,)
    # Not more than the context.
    assert estimate(shape, replace(PLAN, context_length=256)).layers == (MIB // 4,)


def test_without_flash_attention_the_scores_count() -> None:
    plain = estimate(SHAPE, replace(PLAN, flash_attention=False))
    # Of 128 rows that are computed together: activations, a mask of four-byte cells, a matrix for each head.
    assert plain.compute == 8 * MIB + MIB // 2 + 4 * MIB
    # All tokens of an image are.
    images = replace(PLAN, flash_attention=False, projector_paths=("/projector",))
    assert estimate(SHAPE, images).compute == 32 * MIB + 2 * MIB + 16 * MIB


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, False),
        ({"flash_attention": True}, True),
        ({"kv_cache_type": "q8_0"}, None),
        # 128 rows of 65,536 cells for 8 heads, four bytes each, are 256 MiB.
        ({"context_length": 1 << 16}, False),
        ({"context_length": 1 << 17}, None),
    ],
)
def test_a_model_on_the_cpu_needs_no_flash_attention(change: dict[str, object], found: bool | None) -> None:
    plan = replace(PLAN, **change)  # type: ignore[arg-type]
    shape = replace(SHAPE, trained_context=1 << 20)
    assert place_layers(shape, plan, [replace(CPU, total=64 * GIB, free=64 * GIB)]).flash_attention is found


def test_a_model_on_a_gpu_leaves_flash_attention_to_the_engine() -> None:
    assert place_layers(SHAPE, PLAN, [gpu("A", 8000), CPU]).flash_attention is None


def test_an_embedding_model_keeps_no_cache() -> None:
    found = estimate(replace(SHAPE, generates=False), PLAN)
    assert found.layers == (99 * MIB,) * 10
    assert found.compute == 0


# Beside its layers a GPU holds 33 MiB of compute buffers and 256 MiB of the driver's.
@pytest.mark.parametrize(
    ("gpus", "spread", "layers", "split"),
    [
        ([], False, 0, ()),
        ([gpu("G0", 8192)], False, 11, (11,)),
        ([gpu("G0", 1389)], False, 11, (11,)),
        ([gpu("G0", 1388)], False, 10, (10,)),
        ([gpu("G0", 700)], False, 4, (4,)),
        ([gpu("G0", 300)], False, 0, ()),
        ([gpu("G0", 4096), gpu("G1", 8192)], False, 11, (0, 11)),
        ([gpu("G0", 8192), gpu("G1", 8192)], True, 11, (6, 5)),
        ([gpu("G0", 900), gpu("G1", 900)], False, 11, (6, 5)),
        ([gpu("G0", 1300), gpu("G1", 500)], False, 11, (9, 2)),
        ([gpu("G0", 500), gpu("G1", 500)], False, 4, (2, 2)),
        ([gpu("G0", 8192)] + [gpu(f"G{n}", 100) for n in range(1, 8)], False, 11, (11,) + (0,) * 7),
        ([gpu(f"G{n}", 700) for n in range(8)], False, 11, (4, 4, 3, 0, 0, 0, 0, 0)),
        ([gpu(f"G{n}", 8192) for n in range(8)], True, 11, (2, 2, 2, 2, 2, 1, 0, 0)),
        ([gpu("I0", 12000, "igpu")], False, 11, (11,)),
        ([gpu("I0", 12000, "igpu"), gpu("G0", 700)], False, 4, (0, 4)),
    ],
)
def test_placement_on_machines(gpus: list[Device], spread: bool, layers: int, split: tuple[int, ...]) -> None:
    placed = place_layers(SHAPE, PLAN, [*gpus, CPU], spread=spread)
    assert (placed.gpu_layers, placed.tensor_split) == (layers, split)
    if split:
        assert placed.main_gpu == next(index for index, count in enumerate(split) if count)


def test_overhead_is_left_free_on_every_gpu() -> None:
    placed = place_layers(SHAPE, PLAN, [gpu("G0", 1389), CPU], overhead=300 * MIB)
    assert placed.gpu_layers == 8
    placed = place_layers(SHAPE, PLAN, [gpu("G0", 900), gpu("G1", 900), CPU], overhead=200 * MIB)
    assert placed.tensor_split == (4, 4)


def test_a_number_of_layers_is_taken_as_it_is() -> None:
    few = place_layers(SHAPE, replace(PLAN, gpu_layers=3), [gpu("G0", 8192), CPU])
    assert (few.gpu_layers, few.tensor_split) == (3, (3,))
    none = place_layers(SHAPE, replace(PLAN, gpu_layers=0), [gpu("G0", 8192), CPU])
    assert (none.gpu_layers, none.tensor_split) == (0, ())
    # More than fit: the user's number is binding.
    many = place_layers(SHAPE, replace(PLAN, gpu_layers=999), [gpu("G0", 300), CPU])
    assert (many.gpu_layers, many.tensor_split) == (11, (11,))


def test_the_main_gpu_is_taken_first() -> None:
    gpus = [gpu("G0", 8192), gpu("G1", 4096)]
    assert place_layers(SHAPE, PLAN, [*gpus, CPU]).main_gpu == 0
    placed = place_layers(SHAPE, PLAN, [*gpus, CPU], main_gpu=1)
    assert (placed.main_gpu, placed.tensor_split) == (1, (0, 11))
    assert place_layers(SHAPE, PLAN, [*gpus, CPU], main_gpu=7).main_gpu == 0


def test_the_error_has_the_required_and_the_free_memory() -> None:
    small = replace(CPU, free=1 * GIB)
    with pytest.raises(DoesNotFit) as caught:
        place_layers(SHAPE, PLAN, [small])
    assert str(caught.value) == ("model requires more system memory (1.1 GiB) than is available (1.0 GiB)")
    # With a part of it on a GPU the model fits.
    assert place_layers(SHAPE, PLAN, [gpu("G0", 700), small]).gpu_layers == 4


def test_devices_without_memory_figures() -> None:
    unknown = Device("CPU", "", "cpu", 0, 0)
    assert place_layers(SHAPE, PLAN, [unknown]).gpu_layers == 0
    # The backend places the layers itself.
    assert place_layers(SHAPE, PLAN, [Device("G0", "", "gpu", 0, 0), unknown]) == PLAN
    assert place_layers(SHAPE, PLAN, [gpu("G0", 700)]).gpu_layers == 4


def test_an_integrated_gpu_shares_main_memory() -> None:
    with pytest.raises(DoesNotFit):
        place_layers(SHAPE, PLAN, [gpu("I0", 8192, "igpu"), replace(CPU, free=1 * GIB)])


def test_a_tied_output_layer_is_a_copy_on_a_gpu_only() -> None:
    tied = replace(SHAPE, tied=True, input_weights=100 * MIB)
    needed = 10 * 100 + 100 + 33 + 2
    plan = replace(PLAN, flash_attention=True)
    assert place_layers(tied, plan, [replace(CPU, free=needed * MIB)]).gpu_layers == 0
    with pytest.raises(DoesNotFit):
        place_layers(tied, plan, [replace(CPU, free=(needed - 2) * MIB)])
    assert place_layers(tied, PLAN, [gpu("G0", 1389), CPU]).gpu_layers == 11


@pytest.mark.parametrize(
    ("cache", "flash", "head", "obstacle"),
    [
        ("f16", False, 80, False),
        ("q8_0", None, 64, False),
        ("q8_0", True, 64, False),
        ("q8_0", False, 64, True),
        ("q4_0", None, 80, True),
        ("q4_0", None, 128, False),
    ],
)
def test_requirements_of_a_quantised_cache(cache: str, flash: bool | None, head: int, obstacle: bool) -> None:
    plan = replace(PLAN, kv_cache_type=cache, flash_attention=flash)
    shape = replace(SHAPE, key_length=head, value_length=head)
    assert bool(cache_obstacle(plan, shape)) is obstacle


@pytest.mark.parametrize(
    ("share", "free", "expected"),
    [
        (None, 8 * GIB, 2 * GIB),
        (None, 100 * GIB, 8 * GIB),
        (MemoryShare(0), 8 * GIB, 0),
        (MemoryShare(5 * GIB), 1 * GIB, 5 * GIB),
        (MemoryShare(fraction=0.25), 1 * GIB, 4 * GIB),
    ],
)
def test_size_of_the_prompt_cache(share: MemoryShare | None, free: int, expected: int) -> None:
    host = Device("CPU", "", "cpu", free, 16 * GIB)
    assert prompt_cache_size(share, [gpu("G", 1000), host]) == expected


def test_the_prompt_cache_needs_a_known_memory() -> None:
    assert prompt_cache_size(None, []) == 0
    assert prompt_cache_size(MemoryShare(7), []) == 7
