"""Settings of the backend, from the environment of the front."""

import os
from dataclasses import dataclass
from pathlib import Path

from ollama_tw.golang.durations import FOREVER, SECOND, parse_keep_alive
from ollama_tw.interfaces import LoadError

DEFAULT_STORE = "~/.cache/ollama-tw-ray"
"""Folder on each node for the model files that are fetched from the front."""

_DEFAULT_IDLE = 300.0
_LONGEST_IDLE = 1e9


@dataclass(frozen=True)
class Settings:
    """Replicas of each model, and what they need."""

    min_replicas: int
    """0 or 1."""
    max_replicas: int
    """0: one for each node, or for each GPU of the cluster."""
    gpus: float | None
    """GPUs of a replica; None: one if the cluster has any."""
    idle_seconds: float
    """Seconds after which a replica that is not needed goes."""
    backend: str
    """Backend of the replicas; "" for the best one on each node."""
    store: str
    """Folder on each node for files that are fetched."""


def settings() -> Settings:
    """Return the settings. Raises LoadError with one sentence for the user."""
    return Settings(
        min_replicas=int(_number("OLLAMA_TW_RAY_MIN_REPLICAS", 1, 0, 1)),
        max_replicas=int(_number("OLLAMA_TW_RAY_MAX_REPLICAS", 0, 0, 10_000)),
        gpus=_number("OLLAMA_TW_RAY_GPUS", -1, 0, 1024) if os.environ.get("OLLAMA_TW_RAY_GPUS") else None,
        idle_seconds=_idle_seconds(),
        backend=os.environ.get("OLLAMA_TW_RAY_BACKEND", ""),
        store=str(Path(os.environ.get("OLLAMA_TW_RAY_STORE", DEFAULT_STORE))),
    )


def _number(name: str, default: float, least: float, most: float) -> float:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise LoadError(f'{name}: "{text}" is not a number from {least:g} to {most:g}')
    return number


def _idle_seconds() -> float:
    try:
        keep_alive = parse_keep_alive(os.environ.get("OLLAMA_KEEP_ALIVE") or None)
    except ValueError:
        keep_alive = None
    if keep_alive is None:
        return _DEFAULT_IDLE
    return _LONGEST_IDLE if keep_alive >= FOREVER else keep_alive / SECOND
