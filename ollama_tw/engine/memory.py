"""Estimate of a model's memory, and placement of its layers on devices.

Pure functions of the model file (:class:`ModelShape`), the parameters of the load
(:class:`~ollama_tw.interfaces.LoadPlan`) and the hardware (:class:`Device`). All sizes are bytes.

Source: ollama: server/sched.go (what is checked before a load, and the text of the refusal);
llama.cpp: src/llama-kv-cache-iswa.cpp and measurements (docs/scheduling.md) for the buffers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ollama_tw.config.parsers import MemoryShare
from ollama_tw.engine.split import LayersDoNotFit, split_layers
from ollama_tw.interfaces import Device, LoadPlan

_GIB = 1 << 30

# Bytes and elements of one block of the cache's types.
_CACHE_BLOCKS = {"f16": (2, 1), "q8_0": (34, 32), "q4_0": (18, 32)}

# llama.cpp rounds the number of cache cells up to a multiple of this.
_CELL_MULTIPLE = 256

# Drafted tokens of a step (llama/speculation.py).
_MOST_DRAFTED = 15

# Memory of a GPU's driver and kernels, which no buffer size includes.
_GPU_RESERVE = 256 << 20


@dataclass(frozen=True)
class LayerShape:
    """One block of a model.

    ``key_width`` and ``value_width`` are elements per token in the KV cache, 0 for a block without a
    cache. ``windowed`` blocks cache a window of tokens only. ``state`` is the recurrent state of a
    sequence.
    """

    weights: int
    key_width: int = 0
    value_width: int = 0
    windowed: bool = False
    state: int = 0


@dataclass(frozen=True)
class ModelShape:
    """Properties of a model file that determine its memory."""

    layers: tuple[LayerShape, ...]
    input_weights: int
    """Size of the token embeddings, which stay in main memory."""
    output_weights: int
    """Size of the output layer, the last one to be placed on a GPU."""
    tied: bool
    """True if the output layer shares the token embeddings: a copy on a GPU, nothing on the CPU."""
    embedding_length: int
    feed_forward_length: int
    head_count: int
    vocabulary: int
    trained_context: int
    window: int = 0
    key_length: int = 0
    """Elements of one head's key; a quantised cache requires a multiple of 32."""
    value_length: int = 0
    generates: bool = True
    """False for embedding models, which have no cache."""
    extra: int = 0
    """Size of the projector and the adapters, which are other files."""
    draft: "ModelShape | None" = None
    """Shape of the draft model, None without one."""


@dataclass(frozen=True)
class Estimate:
    """Estimated memory of a load."""

    layers: tuple[int, ...]
    """Size of the weights and the cache of each block."""
    output: int
    """Size of the output layer on a GPU."""
    compute: int
    """Size of the buffers for one batch, on every device that computes, and of the draft model."""
    host: int
    """Size of what is never offloaded from main memory."""

    def total(self, tied: bool = False) -> int:
        """Return the size on the CPU alone; ``tied`` as in :class:`ModelShape`."""
        return sum(self.layers) + (0 if tied else self.output) + self.compute + self.host


# Size of the attention matrix up to which a model on the CPU does without flash attention.
_MOST_SCORES = 256 << 20

# Of the free main memory, unless OLLAMA_PROMPT_CACHE sets another limit.
_AUTOMATIC_PART = 4
_LARGEST_AUTOMATIC = 8 * _GIB


class DoesNotFit(Exception):
    """There is not enough memory. The text is Ollama's."""

    def __init__(self, need: int, free: int) -> None:
        super().__init__(
            f"model requires more system memory ({need / _GIB:.1f} GiB) "
            f"than is available ({max(free, 0) / _GIB:.1f} GiB)"
        )
        self.need = need
        self.free = free


def cache_obstacle(plan: LoadPlan, shape: ModelShape | None) -> str:
    """Return why the cache cannot have the type in ``plan``, "" if it can.

    A quantised cache requires flash attention, and heads of whole blocks. Ollama falls back to f16.
    """
    if plan.kv_cache_type == "f16":
        return ""
    if plan.flash_attention is False:
        return "a quantised K/V cache requires flash attention, which is disabled"
    block = _CACHE_BLOCKS[plan.kv_cache_type][1]
    if shape is not None and (shape.key_length % block or shape.value_length % block):
        return f"the length of the attention heads is not a multiple of {block}"
    return ""


def estimate(shape: ModelShape, plan: LoadPlan) -> Estimate:
    """Return the memory that loading a model of ``shape`` with ``plan`` takes."""
    slots = plan.slots
    batch = max(plan.batch, slots)
    cells = _cells(shape, plan)
    window_cells = min(cells, _padded(shape.window + batch))
    caches = [
        _cache(layer, plan, slots, window_cells if layer.windowed else cells) if shape.generates else 0
        for layer in shape.layers
    ]
    # It may be on any device.
    draft = (
        estimate(shape.draft, replace(plan, speculation=False)).total(shape.draft.tied) if shape.draft else 0
    )
    return Estimate(
        layers=tuple(layer.weights + cache for layer, cache in zip(shape.layers, caches, strict=True)),
        output=shape.output_weights,
        compute=(_compute(shape, plan, cells, window_cells) if shape.generates else 0) + draft,
        host=shape.input_weights + shape.extra + (_logits(shape, plan) if shape.generates else 0),
    )


def _logits(shape: ModelShape, plan: LoadPlan) -> int:
    """Return the size of the logits of a step, which also has rows of drafted tokens."""
    drafted = _MOST_DRAFTED if plan.speculation else 0
    return 4 * shape.vocabulary * min(plan.slots + drafted, max(plan.batch, plan.slots))


def _cells(shape: ModelShape, plan: LoadPlan) -> int:
    """Return the number of cells of a slot in the cache."""
    return _padded(min(plan.context_length, shape.trained_context or plan.context_length))


def _padded(cells: int) -> int:
    return -(-cells // _CELL_MULTIPLE) * _CELL_MULTIPLE


def _cache(layer: LayerShape, plan: LoadPlan, slots: int, cells: int) -> int:
    size, elements = _CACHE_BLOCKS[plan.kv_cache_type]
    width = layer.key_width + layer.value_width
    return slots * (cells * width * size // elements + layer.state)


def _compute(shape: ModelShape, plan: LoadPlan, cells: int, window_cells: int) -> int:
    """Return the size of the compute buffers.

    They are the activations of the widest part of the graph, the attention masks, and, without flash
    attention, the attention matrix.
    """
    batch = plan.micro_batch
    activations = 4 * batch * (3 * shape.feed_forward_length + 4 * shape.embedding_length)
    masks = [cells]
    if any(layer.windowed for layer in shape.layers):
        masks.append(window_cells)
    flash = plan.flash_attention is not False
    return activations + (2 if flash else 4) * batch * sum(masks) + (0 if flash else _scores(shape, plan))


def _scores(shape: ModelShape, plan: LoadPlan) -> int:
    """Return the size of the attention matrix."""
    return 4 * plan.micro_batch * _cells(shape, plan) * shape.head_count


def place_layers(
    shape: ModelShape,
    plan: LoadPlan,
    devices: Sequence[Device],
    *,
    spread: bool = False,
    overhead: int = 0,
    main_gpu: int | None = None,
) -> LoadPlan:
    """Return ``plan`` with ``gpu_layers``, ``tensor_split`` and ``main_gpu`` set for ``devices``.

    The model is placed on one GPU, or on as few as hold it, or on all with ``spread``; the other
    layers stay on the CPU. ``overhead`` bytes are left free on each GPU. A number of layers in the
    plan is binding. ``main_gpu`` is an index among the GPUs and is preferred to the others. Integrated
    GPUs are used if there are no others, and their memory counts as main memory. A device with the
    total 0 does not report its memory: on such GPUs the backend places the layers. Raises
    :class:`DoesNotFit`.
    """
    gpus = [device for device in devices if device.kind == "gpu"]
    shared = not gpus
    if shared:
        gpus = [device for device in devices if device.kind == "igpu"]
    all_gpus = [device for device in devices if device.kind in ("gpu", "igpu")]
    if any(not gpu.total for gpu in gpus):
        return plan
    cpu_free = _cpu_free(devices)
    if not gpus or plan.gpu_layers == 0:
        plan = _without_flash_attention(shape, plan)
        _check(estimate(shape, plan).total(shape.tied), cpu_free)
        return replace(plan, gpu_layers=0, tensor_split=())
    needs = estimate(shape, plan)

    # The output layer counts as the last one, as in llama.cpp.
    sizes = (*needs.layers, needs.output)
    reserve = needs.compute + overhead + (0 if shared else _GPU_RESERVE)
    capacities = [max(gpu.free - reserve, 0) for gpu in gpus]
    if shared and cpu_free is not None:
        usable = max(cpu_free - needs.host - needs.compute, 0)
        capacities = [min(capacity, usable) for capacity in capacities]
    first = None if main_gpu is None or main_gpu >= len(gpus) else main_gpu
    if plan.gpu_layers > 0:
        count = min(plan.gpu_layers, len(sizes))
        counts = split_layers(sizes[-count:], capacities, spread=spread, first=first, force=True)
    else:
        count, counts = _max_layers(sizes, capacities, spread, first)
    if plan.gpu_layers < 0:
        # A number of layers that the user set is not checked; else the rest has to fit into main memory.
        on_gpu = sum(sizes[len(sizes) - count :])
        on_cpu = needs.host + needs.compute + sum(sizes) - on_gpu
        if not count and shape.tied:
            on_cpu -= needs.output
        _check(on_cpu + (on_gpu if shared else 0), cpu_free, elsewhere=0 if shared else on_gpu)
    by_name = dict(zip((gpu.name for gpu in gpus), counts, strict=True))
    split = tuple(by_name.get(device.name, 0) for device in all_gpus)
    if not any(split):
        return replace(plan, gpu_layers=0, tensor_split=())
    main = next(index for index, layers in enumerate(split) if layers)
    return replace(plan, gpu_layers=count, tensor_split=split, main_gpu=main)


def _without_flash_attention(shape: ModelShape, plan: LoadPlan) -> LoadPlan:
    """Return ``plan`` without flash attention, unless that is set or would take much memory.

    On processors a step of few tokens takes twice as long with it from a thousand cached tokens on
    (docs/performance.md, "Attention").
    """
    if plan.flash_attention is not None or plan.kv_cache_type != "f16" or not shape.generates:
        return plan
    changed = replace(plan, flash_attention=False)
    return changed if _scores(shape, changed) <= _MOST_SCORES else plan


def _max_layers(
    sizes: Sequence[int], capacities: Sequence[int], spread: bool, first: int | None
) -> tuple[int, tuple[int, ...]]:
    """Return the largest number of last layers that the GPUs hold, and the number for each GPU."""
    low, high = 0, len(sizes)
    best: tuple[int, ...] = (0,) * len(capacities)
    while low < high:
        middle = (low + high + 1) // 2
        try:
            best = split_layers(sizes[-middle:], capacities, spread=spread, first=first)
        except LayersDoNotFit:
            high = middle - 1
        else:
            low = middle
    return low, best


def _cpu_free(devices: Sequence[Device]) -> int | None:
    """Return the free main memory, None if the backend does not report it."""
    return next((device.free for device in devices if device.kind == "cpu" and device.total), None)


def _check(need: int, free: int | None, elsewhere: int = 0) -> None:
    if free is not None and need > free:
        raise DoesNotFit(need + elsewhere, free + elsewhere)


def prompt_cache_size(share: MemoryShare | None, devices: Sequence[Device]) -> int:
    """Return the bytes of main memory for saved states of prompts.

    None stands for a quarter of what is free, and 8 GiB at most. A share of an unknown memory is 0.
    """
    if share is not None and share.size is not None:
        return share.size
    host = next((device for device in devices if device.kind == "cpu"), None)
    if host is None:
        return 0
    if share is None:
        return min(host.free // _AUTOMATIC_PART, _LARGEST_AUTOMATIC)
    return int(share.fraction * host.total)
