"""Settings of one model: the tables ``[models."NAME"]`` of the configuration file. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from ollama_tw.config.settings import VARIABLES
from ollama_tw.configfile.document import ModelConfig
from ollama_tw.configfile.lines import KeyPath
from ollama_tw.errors import OllamaError
from ollama_tw.golang.durations import FOREVER, parse_keep_alive
from ollama_tw.wire.options import OPTIONS, Kind, resolve

_MAX_PARALLEL = 256


OPTION_KEYS = {"context_length": "num_ctx", "gpu_layers": "num_gpu"}
"""Keys that are options of requests under another name."""

KEYS = (
    "parallel",
    "context_length",
    "keep_alive",
    "pin",
    "preload",
    "options",
    "gpu_layers",
    "kv_cache_type",
    "draft",
)
"""The keys of a table."""


def read_model(table: Mapping[str, Any], mistake: Callable[[KeyPath, str], None]) -> ModelConfig:
    """Return the settings in ``table``; ``mistake`` is called with the path and the text of each mistake.

    Keys that are not in :data:`KEYS` are left to the caller.
    """
    values: dict[str, Any] = {}
    options: dict[str, Any] = {}
    given = table.get("options", {})
    if isinstance(given, dict):
        for name, value in given.items():
            if (text := option_mistake(name, value)) is None:
                options[name] = value
            else:
                mistake(("options", name), text)
    else:
        mistake(("options",), "options is not a table such as { temperature = 0.2 }")
    for key, option in OPTION_KEYS.items():
        if key not in table:
            continue
        if option in options:
            mistake((key,), f"{key} and the option {option} are the same: give one of them")
        elif (text := option_mistake(option, table[key])) is not None:
            mistake((key,), text.replace(f'option "{option}"', key))
        else:
            options[option] = table[key]
    for key, parse in _PARSERS.items():
        if key in table:
            try:
                values[key] = parse(table[key])
            except ValueError as error:
                mistake((key,), f"{key} {error}")
    if values.get("pin") and "keep_alive" in values:
        mistake(("keep_alive",), "keep_alive has no effect on a model with pin, which stays loaded")
    return ModelConfig(**values, options=options)


def option_mistake(name: str, value: Any) -> str | None:
    """Return why ``value`` is not one of the option ``name``; None if it is."""
    if name not in OPTIONS or OPTIONS[name].request_only:
        return f'there is no option "{name}"'
    if OPTIONS[name].kind is Kind.INTEGER and isinstance(value, float) and not value.is_integer():
        # Requests may have fractions, which Ollama cuts off; in a file they are mistakes.
        return f'option "{name}" is not a whole number'
    try:
        resolve({name: value}, {})
    except OllamaError as error:
        return error.message
    return None


def _parallel(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("is not a whole number")
    if not 1 <= value <= _MAX_PARALLEL:
        raise ValueError(f"is not from 1 to {_MAX_PARALLEL}")
    return value


def _keep_alive(value: Any) -> int:
    try:
        duration = parse_keep_alive(value)
    except ValueError:
        duration = None
    if duration is None:
        raise ValueError("is not a duration such as 30s, 5m or -1")
    return min(duration, FOREVER)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is not true or false")
    return value


def _kv_cache_type(value: Any) -> str:
    variable = next(one for one in VARIABLES if one.name == "OLLAMA_KV_CACHE_TYPE")
    return str(variable.parse(str(value), lambda remark: None))


def _draft(value: Any) -> str:
    if value is False:
        return ""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is not the name of a model, or false for none")
    return value.strip()


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "parallel": _parallel,
    "keep_alive": _keep_alive,
    "pin": _boolean,
    "preload": _boolean,
    "kv_cache_type": _kv_cache_type,
    "draft": _draft,
}
