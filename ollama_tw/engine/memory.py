"""How much memory a model takes, and which of its layers go to which device.

Pure functions over plain descriptions: what the model file says (:class:`ModelShape`), what is to be
made of it (:class:`~ollama_tw.interfaces.LoadPlan`), what is there (:class:`Device`). All sizes are
bytes.

Source: ``spec/inference-api.md`` section 8.5; how the engine sizes its buffers, llama.cpp's
``llama-kv-cache-iswa.cpp`` and measurements (docs/scheduling.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ollama_tw.engine.split import NoRoom, split_layers
from ollama_tw.interfaces import Device, LoadPlan

_GIB = 1 << 30

# Bytes and elements of one block of the cache's types.
_CACHE_BLOCKS = {"f16": (2, 1), "q8_0": (34, 32), "q4_0": (18, 32)}

# llama.cpp rounds the cells of a cache up to a multiple of this.
_CELLS = 256

# What a GPU's driver and kernels take beside the buffers that are told of.
_GPU_RESERVE = 256 << 20


@dataclass(frozen=True)
class LayerShape:
    """One block of a model. ``key_width`` and ``value_width`` are elements a token in the KV cache, 0
    where the block keeps none; ``windowed`` blocks keep a window of tokens only; ``state`` is the
    running state of a sequence."""

    weights: int
    key_width: int = 0
    value_width: int = 0
    windowed: bool = False
    state: int = 0


@dataclass(frozen=True)
class ModelShape:
    """What a model file says about the memory it needs."""

    layers: tuple[LayerShape, ...]
    input_weights: int
    """Of the token embeddings: they stay in main memory."""
    output_weights: int
    """Of the output layer, which goes to a GPU last of all."""
    tied: bool
    """Whether the output layer is the token embeddings again: a copy on a GPU, nothing on the CPU."""
    embedding_length: int
    feed_forward_length: int
    head_count: int
    vocabulary: int
    trained_context: int
    window: int = 0
    key_length: int = 0
    """Elements of one head's key; a quantised cache takes whole blocks of 32."""
    value_length: int = 0
    generates: bool = True
    """False for models made for embeddings: they keep no cache."""
    extra: int = 0
    """Of the projector and the adapters, in other files."""


@dataclass(frozen=True)
class Estimate:
    """What a load will take."""

    layers: tuple[int, ...]
    """Weights and cache of each block."""
    output: int
    """The output layer on a GPU."""
    compute: int
    """Buffers for one step, on every device that computes."""
    host: int
    """What lies in main memory whatever is offloaded."""

    def total(self, tied: bool = False) -> int:
        """Everything on the CPU alone; ``tied``: the output layer shares the embeddings' memory."""
        return sum(self.layers) + (0 if tied else self.output) + self.compute + self.host


class DoesNotFit(Exception):
    """There is not enough memory; the text is one sentence for the user."""

    def __init__(self, need: int, free: int) -> None:
        super().__init__(
            f"model requires more system memory ({need / _GIB:.1f} GiB) "
            f"than is available ({max(free, 0) / _GIB:.1f} GiB)"
        )
        self.need = need
        self.free = free


def cache_obstacle(plan: LoadPlan, shape: ModelShape | None) -> str:
    """Why the cache cannot have the type that ``plan`` names, '' where it can.

    A quantised cache needs flash attention, and heads of whole blocks. Ollama falls back to f16.
    """
    if plan.kv_cache_type == "f16":
        return ""
    if plan.flash_attention is False:
        return "a quantised K/V cache needs flash attention, which is turned off"
    block = _CACHE_BLOCKS[plan.kv_cache_type][1]
    if shape is not None and (shape.key_length % block or shape.value_length % block):
        return f"its attention heads are not made of whole blocks of {block}"
    return ""


def estimate(shape: ModelShape, plan: LoadPlan) -> Estimate:
    """What loading a model of ``shape`` as ``plan`` says will take."""
    slots = plan.slots
    context = min(plan.context_length, shape.trained_context or plan.context_length)
    batch = max(plan.batch, slots)
    cells = _padded(context)
    window_cells = min(cells, _padded(shape.window + batch))
    caches = [
        _cache(layer, plan, slots, window_cells if layer.windowed else cells) if shape.generates else 0
        for layer in shape.layers
    ]
    return Estimate(
        layers=tuple(layer.weights + cache for layer, cache in zip(shape.layers, caches, strict=True)),
        output=shape.output_weights,
        compute=_compute(shape, plan, batch, cells, window_cells) if shape.generates else 0,
        host=shape.input_weights + shape.extra + (4 * shape.vocabulary * slots if shape.generates else 0),
    )


def _padded(cells: int) -> int:
    return -(-cells // _CELLS) * _CELLS


def _cache(layer: LayerShape, plan: LoadPlan, slots: int, cells: int) -> int:
    size, elements = _CACHE_BLOCKS[plan.kv_cache_type]
    width = layer.key_width + layer.value_width
    return slots * (cells * width * size // elements + layer.state)


def _compute(shape: ModelShape, plan: LoadPlan, batch: int, cells: int, window_cells: int) -> int:
    """The activations of the widest part of the graph, the attention masks, and, without flash
    attention, the attention matrix itself."""
    activations = 4 * batch * (3 * shape.feed_forward_length + 4 * shape.embedding_length)
    flash = plan.flash_attention is not False
    masks = [cells]
    if any(layer.windowed for layer in shape.layers):
        masks.append(window_cells)
    scores = 0 if flash else 4 * batch * cells * shape.head_count
    return activations + (2 if flash else 4) * batch * sum(masks) + scores


def place(
    shape: ModelShape,
    plan: LoadPlan,
    devices: Sequence[Device],
    *,
    spread: bool = False,
    overhead: int = 0,
    main_gpu: int | None = None,
) -> LoadPlan:
    """``plan`` with ``gpu_layers``, ``tensor_split`` and ``main_gpu`` settled for ``devices``.

    The model goes to one GPU, or to as few as hold it, or to all of them with ``spread``; what they
    do not hold stays on the CPU. ``overhead`` is left free on each GPU. A plan that names a number
    of layers gets it; ``main_gpu`` counts the GPUs, and is taken before all others. Integrated GPUs
    are used where there are no others, and their memory counts as the CPU's. Raises
    :class:`DoesNotFit`.
    """
    gpus = [device for device in devices if device.kind == "gpu"]
    shared = not gpus
    if shared:
        gpus = [device for device in devices if device.kind == "igpu"]
    all_gpus = [device for device in devices if device.kind in ("gpu", "igpu")]
    needs = estimate(shape, plan)
    cpu_free = _cpu_free(devices)
    if not gpus or plan.gpu_layers == 0:
        _check(needs.total(shape.tied), cpu_free)
        return replace(plan, gpu_layers=0, tensor_split=())

    # The output layer counts as the last one, as in llama.cpp.
    sizes = (*needs.layers, needs.output)
    reserve = needs.compute + overhead + (0 if shared else _GPU_RESERVE)
    room = [max(gpu.free - reserve, 0) for gpu in gpus]
    if shared and cpu_free is not None:
        room = [min(one, max(cpu_free - needs.host - needs.compute, 0)) for one in room]
    first = None if main_gpu is None or main_gpu >= len(gpus) else main_gpu
    if plan.gpu_layers > 0:
        count = min(plan.gpu_layers, len(sizes))
        counts = split_layers(sizes[-count:], room, spread=spread, first=first, insist=True)
    else:
        count, counts = _most(sizes, room, spread, first)
    if plan.gpu_layers < 0:
        # Whoever named a number of layers is believed; else what stays behind has to fit.
        on_gpu = sum(sizes[len(sizes) - count :])
        behind = needs.host + needs.compute + sum(sizes) - on_gpu
        if not count and shape.tied:
            behind -= needs.output
        _check(behind + (on_gpu if shared else 0), cpu_free, elsewhere=0 if shared else on_gpu)
    by_name = dict(zip((gpu.name for gpu in gpus), counts, strict=True))
    split = tuple(by_name.get(device.name, 0) for device in all_gpus)
    if not any(split):
        return replace(plan, gpu_layers=0, tensor_split=())
    main = next(index for index, layers in enumerate(split) if layers)
    return replace(plan, gpu_layers=count, tensor_split=split, main_gpu=main)


def _most(
    sizes: Sequence[int], room: Sequence[int], spread: bool, first: int | None
) -> tuple[int, tuple[int, ...]]:
    """The largest number of last layers that the GPUs hold, and how many go to each."""
    low, high = 0, len(sizes)
    best: tuple[int, ...] = (0,) * len(room)
    while low < high:
        middle = (low + high + 1) // 2
        try:
            best = split_layers(sizes[-middle:], room, spread=spread, first=first)
        except NoRoom:
            high = middle - 1
        else:
            low = middle
    return low, best


def _cpu_free(devices: Sequence[Device]) -> int | None:
    """Main memory that is free; None where no backend tells."""
    return next((device.free for device in devices if device.kind == "cpu"), None)


def _check(need: int, free: int | None, elsewhere: int = 0) -> None:
    if free is not None and need > free:
        raise DoesNotFit(need + elsewhere, free + elsewhere)
