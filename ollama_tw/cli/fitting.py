"""Text of ``ollama fit``: tables of how a model would be placed. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from ollama_tw.cli.tables import table
from ollama_tw.golang.fmt import human_number
from ollama_tw.golang.humanize import human_bytes

_PARTS = {
    "weights": "weights",
    "cache": "K/V cache",
    "compute": "compute buffers",
    "projector": "projector and adapters",
}
_CLASSES = ((30.0, "fast"), (8.0, "as fast as one reads"), (2.0, "slow"), (0.0, "very slow"))
_CELL = 60

Rows = list[Sequence[str]]


def fit_text(answer: Mapping[str, Any]) -> str:
    """Return the sections for the answer of ``ollama_tw.engine.fit``, and the verdict."""
    sections: list[tuple[str, Rows]] = [
        ("Model", _model(answer)),
        (_memory_title(answer), _memory(answer)),
        (f"Devices ({answer['backend']})", [_device(device, answer) for device in answer["devices"]]),
    ]
    text = "".join(
        f"  {title}\n{table([('', *row) for row in rows], cell_width=_CELL)}\n" for title, rows in sections
    )
    return text + verdict(answer)


def verdict(answer: Mapping[str, Any]) -> str:
    """Return whether the model fits, how long the context may be, and how fast it would be."""
    longest = answer["longest_context"]
    if answer["reason"]:
        text = f"  Does not fit: {answer['reason']}.\n"
        if longest:
            return text + f"  It fits with a context of {longest} tokens: --context {longest}\n"
        return text + "  Free memory, or choose a smaller model or quantization.\n"
    lines = [f"  Fits{_where(answer)}."]
    if longest:
        is_all = longest >= answer["trained_context"] > 0
        lines.append(
            f"  Longest context: {longest} tokens" + (", all that it was trained for." if is_all else ".")
        )
    speed = answer["tokens_per_second"]
    if speed:
        name = next(name for least, name in _CLASSES if speed >= least)
        lines.append(f"  Expected speed: {name}, roughly {_rounded(speed)} tokens/s for one request.")
    return "\n".join(lines) + "\n"


def _model(answer: Mapping[str, Any]) -> Rows:
    rows: Rows = [
        ("architecture", answer["architecture"]),
        ("parameters", human_number(answer["parameters"])),
        ("quantization", answer["quantization"]),
        ("layers", str(answer["layers"])),
    ]
    if answer["trained_context"]:
        rows.append(("context length", str(answer["trained_context"])))
    return rows


def _memory_title(answer: Mapping[str, Any]) -> str:
    if not answer["context"]:
        return "Memory"
    count = answer["parallel"]
    requests = "1 request" if count == 1 else f"{count} requests"
    return f"Memory for {requests} of {answer['context']} tokens"


def _memory(answer: Mapping[str, Any]) -> Rows:
    rows: Rows = [
        (name, human_bytes(answer["parts"][key])) for key, name in _PARTS.items() if answer["parts"][key]
    ]
    return [*rows, ("total", human_bytes(answer["total"]))]


def _device(device: Mapping[str, Any], answer: Mapping[str, Any]) -> Sequence[str]:
    free = f"{human_bytes(device['free'])} free" if device["total"] else "memory unknown"
    layers = f"{device['layers']} of {answer['layers']} layers"
    return device["name"], device["description"], layers, f"{human_bytes(device['used'])} of {free}"


def _where(answer: Mapping[str, Any]) -> str:
    on_gpu = sum(device["layers"] for device in answer["devices"] if device["kind"] != "cpu")
    if not on_gpu:
        return " into main memory"
    return (
        " on the GPU" if on_gpu >= answer["layers"] else f", {on_gpu} of {answer['layers']} layers on the GPU"
    )


def _rounded(speed: float) -> str:
    """Return a speed with one significant digit."""
    rounded = float(f"{speed:.1g}")
    return f"{rounded:.0f}" if rounded >= 1 else f"{rounded:g}"
