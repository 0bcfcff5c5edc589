"""The ``options`` of a request: types, ranges, defaults, and who overrides whom.

Source: ``spec/inference-api.md`` section 3, ``spec/better.md`` rows 10 and 11.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ollama_tw.errors import OllamaError

_INT32 = 2**31 - 1
_INT64 = 2**63 - 1

# Below this a context cannot hold a conversation's first words; Ollama has the same floor.
LEAST_CONTEXT = 4


@dataclass(frozen=True)
class Options:
    """Resolved options; ``given`` names those that a model or a request set, not a default."""

    num_ctx: int = 0
    """0 where nobody set it: the server's default, or whatever is loaded, will do."""
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int = 0
    draft_num_predict: int = 0
    num_keep: int = 4
    seed: int = -1
    num_predict: int = -1
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    temperature: float = 0.8
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()


def _integer(low: int, high: int) -> Callable[[str, Any], int]:
    def convert(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OllamaError(400, f'option "{name}" must be of type integer')
        if not math.isfinite(value) or not low <= int(value) <= high:
            raise OllamaError(400, f'option "{name}" must be between {low} and {high}')
        return int(value)

    return convert


def _number(low: float, high: float) -> Callable[[str, Any], float]:
    def convert(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OllamaError(400, f'option "{name}" must be of type float32')
        # Written so that NaN, which compares false with everything, is refused too.
        if not low <= value <= high:
            raise OllamaError(400, f'option "{name}" must be between {low:g} and {high:g}')
        return float(value)

    return convert


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise OllamaError(400, f'option "{name}" must be of type boolean')
    return value


def _strings(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise OllamaError(400, f'option "{name}" must be of type array')
    if not all(isinstance(item, str) for item in value):
        raise OllamaError(400, f'option "{name}" must be of an array of strings')
    return tuple(value)


_CONVERTERS: Mapping[str, Callable[[str, Any], Any]] = {
    "num_ctx": _integer(0, _INT32),
    "num_batch": _integer(1, 1 << 16),
    "num_gpu": _integer(-1, _INT32),
    "main_gpu": _integer(0, 1 << 10),
    "use_mmap": _boolean,
    "num_thread": _integer(0, 1 << 10),
    "draft_num_predict": _integer(0, 1 << 10),
    "num_keep": _integer(-1, _INT32),
    "seed": _integer(-_INT64, _INT64),
    "num_predict": _integer(-_INT32, _INT32),
    "top_k": _integer(-1, _INT32),
    "top_p": _number(0, 1),
    "min_p": _number(0, 1),
    "typical_p": _number(0, 1),
    "repeat_last_n": _integer(-1, _INT32),
    "temperature": _number(0, 1000),
    "repeat_penalty": _number(0, 1000),
    "presence_penalty": _number(-1000, 1000),
    "frequency_penalty": _number(-1000, 1000),
    "stop": _strings,
}


def resolve(*layers: Mapping[str, Any]) -> Options:
    """The options that result from ``layers``, each of which overrides those before it.

    Unknown names are ignored, None keeps what a lower layer has. Raises :class:`OllamaError` 400
    with Ollama's text for a wrong type, and naming the bounds for a value out of range.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            convert = _CONVERTERS.get(name)
            if convert is not None and value is not None:
                values[name] = convert(name, value)
    if "num_ctx" in values:
        values["num_ctx"] = max(values["num_ctx"], LEAST_CONTEXT)
    return Options(**values, given=frozenset(values))
