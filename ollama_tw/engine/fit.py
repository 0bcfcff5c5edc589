"""``python -m ollama_tw.engine.fit JSON``: how a model would be placed on this machine, without loading it.

The argument has the fields of :class:`Question`. Standard output is one line of JSON: ``error`` for a file
that is not a valid model, ``incomplete`` if more of the file is needed, else the fields of :class:`Answer`.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ollama_tw.config.declaration import SettingsError
from ollama_tw.config.settings import Settings
from ollama_tw.engine.backends import NoBackend, choose, discover
from ollama_tw.engine.memory import DoesNotFit, ModelShape, cache_obstacle, estimate, place_layers
from ollama_tw.engine.model_shape import model_shape
from ollama_tw.gguf.reader import GGUFError, Header, read_header
from ollama_tw.interfaces import Device, LoadPlan
from ollama_tw.llama import discovery
from ollama_tw.posix import usable_processors

_CONTEXT_STEP = 256
# Bytes per second that a GPU reads weights with: those of a discrete one of the middle class, and of one that
# shares the main memory.
_GPU_RATES = {"gpu": 300e9, "igpu": 60e9}
_SAMPLE_BYTES = 64 << 20
# Of what one thread reads, all threads of a machine read about twice as much.
_THREADS_GAIN = 2.0
# Multiplications and additions per second of one processor, by the figures of SmolLM2 in docs/performance.md.
_PROCESSOR_RATE = 14e9

Place = Callable[[LoadPlan], LoadPlan]
""":func:`place_layers` with everything but the plan; raises DoesNotFit."""


@dataclass(frozen=True)
class Question:
    """A model file and the parameters of a load; 0 for those of the settings.

    ``have`` bytes of the file are there, the others are holes. ``extra`` is the size of projectors and
    adapters.
    """

    path: str
    have: int
    extra: int = 0
    context: int = 0
    parallel: int = 0


@dataclass(frozen=True)
class Answer:
    """Memory and placement of a load; sizes are bytes.

    ``reason`` is why the model does not fit, "" if it does. ``devices`` have the number of their ``layers``,
    of which the output layer is one, and the ``used`` bytes. ``longest_context`` is the longest with which
    the model fits, 0 if there is none. ``tokens_per_second`` is a rough estimate for one request.
    """

    architecture: str
    parameters: int
    quantization: str
    trained_context: int
    context: int
    parallel: int
    layers: int
    parts: dict[str, int]
    total: int
    backend: str
    devices: list[dict[str, Any]]
    reason: str
    longest_context: int
    tokens_per_second: float


def answer(
    header: Header, shape: ModelShape, plan: LoadPlan, devices: Sequence[Device], place: Place
) -> Answer:
    """Return how the model would be placed. ``place`` is :func:`place_layers` of everything but the plan."""
    if cache_obstacle(plan, shape):
        plan = replace(plan, kv_cache_type="f16")
    plan = replace(
        plan, context_length=min(plan.context_length, shape.trained_context or plan.context_length)
    )
    reason = ""
    try:
        placed = place(plan)
    except DoesNotFit as error:
        placed, reason = replace(plan, gpu_layers=0), str(error)
    needs = estimate(shape, plan)
    weights = [layer.weights for layer in shape.layers]
    on_gpu = max(placed.gpu_layers, 0)
    output = 0 if shape.tied and not on_gpu else shape.output_weights
    total = needs.total(shape.tied and not on_gpu)
    return Answer(
        architecture=header.architecture,
        parameters=header.parameter_count,
        quantization=header.file_type,
        trained_context=shape.trained_context,
        context=plan.context_length if shape.generates else 0,
        parallel=plan.slots,
        layers=len(shape.layers) + 1,
        parts={
            "weights": sum(weights) + shape.input_weights + output,
            "cache": sum(needs.layers) - sum(weights),
            "compute": needs.compute + needs.host - shape.input_weights - shape.extra,
            "projector": shape.extra,
        },
        total=total,
        backend="",
        devices=_devices(shape, plan, placed, devices),
        reason=reason,
        longest_context=_longest_context(shape, plan, place) if shape.generates else 0,
        tokens_per_second=_speed(header, shape, placed, devices),
    )


def _devices(
    shape: ModelShape, plan: LoadPlan, placed: LoadPlan, devices: Sequence[Device]
) -> list[dict[str, Any]]:
    """Return each device with its share of the layers; the CPU has the first ones."""
    needs = estimate(shape, plan)
    sizes = [*needs.layers, needs.output]
    gpus = [device for device in devices if device.kind in ("gpu", "igpu")]
    shares = placed.tensor_split or (0,) * len(gpus)
    start = len(sizes) - max(placed.gpu_layers, 0)
    described = []
    at = start
    for device, count in zip(gpus, shares, strict=False):
        used = sum(sizes[at : at + count]) + (needs.compute if count else 0)
        described.append({**asdict(device), "layers": count, "used": used})
        at += count
    on_cpu = sum(sizes[:start]) - (needs.output if shape.tied and start == len(sizes) else 0)
    for device in devices:
        if device.kind == "cpu":
            described.append({**asdict(device), "layers": start, "used": on_cpu + needs.host + needs.compute})
    return described


def _longest_context(shape: ModelShape, plan: LoadPlan, place: Place) -> int:
    """Return the longest context, a multiple of 256 up to the trained one, with which the model fits."""
    longest = shape.trained_context or plan.context_length
    low, high = 0, -(-longest // _CONTEXT_STEP)
    while low < high:
        middle = (low + high + 1) // 2
        try:
            place(replace(plan, context_length=middle * _CONTEXT_STEP))
        except DoesNotFit:
            high = middle - 1
        else:
            low = middle
    return min(low * _CONTEXT_STEP, longest)


def _speed(header: Header, shape: ModelShape, placed: LoadPlan, devices: Sequence[Device]) -> float:
    """Return the tokens per second, by the weights that a token needs: their reading, and their products."""
    used, experts = header.get_int("expert_used_count"), header.get_int("expert_count")
    unused = 1 - used / experts if 0 < used < experts else 0.0
    of_experts = [tensor for tensor in header.tensors if "_exps." in tensor.name]
    weights = sum(layer.weights for layer in shape.layers) + shape.output_weights
    needed = weights - unused * sum(tensor.size for tensor in of_experts)
    products = header.parameter_count - unused * sum(tensor.elements for tensor in of_experts)
    part = max(placed.gpu_layers, 0) / (len(shape.layers) + 1)
    gpu_kind = next((device.kind for device in devices if device.kind == "gpu"), "igpu")
    seconds = needed * part / _GPU_RATES[gpu_kind]
    if part < 1:
        computing = 2 * products / (_PROCESSOR_RATE * usable_processors())
        seconds += (1 - part) * max(needed / _memory_rate(), computing)
    return 1 / seconds if seconds > 0 else 0.0


def _memory_rate() -> float:
    """Return the bytes per second that the processors read from the main memory, by a short measurement."""
    import numpy

    block = numpy.zeros(_SAMPLE_BYTES // 8)
    block += 1  # Pages that were never written are not read from memory.
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        block.sum()
        rates.append(_SAMPLE_BYTES / (time.perf_counter() - start))
    return float(max(rates)) * _THREADS_GAIN


def main(text: str) -> dict[str, Any]:
    """Return the object to print for a question in JSON."""
    question = Question(**json.loads(text))
    path = Path(question.path)
    is_partial = question.have < path.stat().st_size
    try:
        header = read_header(path)
        if header.data_offset > question.have:
            return {"incomplete": True}
        if header.kind != "model":
            return {"error": f"the file is not a model but of the kind {header.kind}"}
        shape = replace(model_shape(header), extra=question.extra)
    except GGUFError as error:
        return {"incomplete": True} if is_partial else {"error": str(error)}
    discovery.begin()
    try:
        settings = Settings.read(os.environ, lambda text: None)
        backend = choose(discover(), settings.llm_library)
    except (SettingsError, NoBackend) as error:
        return {"error": str(error)}
    plan = LoadPlan(
        question.path,
        slots=question.parallel or settings.num_parallel,
        context_length=question.context or settings.context_length,
        kv_cache_type=settings.kv_cache_type,
        flash_attention=settings.flash_attention,
    )
    devices = backend.probe.devices
    place = partial(
        place_layers, shape, devices=devices, spread=settings.sched_spread, overhead=settings.gpu_overhead
    )
    return asdict(replace(answer(header, shape, plan, devices, place), backend=backend.name))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
