"""Real models and reference data, which tests without them skip."""

import os
from pathlib import Path

import pytest

from tests.helpers import ROOT

_CACHE = ROOT / ".cache"
SHARED = Path(os.environ.get("OLLAMA_TW_SHARED", _CACHE)) / "data"
"""Folder of the GGUF file and the reference vectors of all-MiniLM-L6-v2, and of test vectors of Ollama."""


def smollm2() -> str:
    """Return the path of the GGUF file of SmolLM2-135M-Instruct, or skip the test."""
    named = os.environ.get("OLLAMA_TW_SMOLLM2")
    found = [Path(named)] if named else sorted(_CACHE.glob("*mol*m2*.gguf"))
    if not found or not found[0].is_file():
        pytest.skip("no SmolLM2: run make test, or set OLLAMA_TW_SMOLLM2 to its GGUF file")
    return str(found[0].resolve())


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 as GGUF and its reference vectors, or skip the test."""
    if not (SHARED / "all-minilm-l6-v2-f16.gguf").is_file():
        pytest.skip("no GGUF file of all-MiniLM-L6-v2: set OLLAMA_TW_SHARED to the folder that contains data")
    return SHARED


def minilm_safetensors() -> Path:
    """Return the folder of the safetensors files of all-MiniLM-L6-v2, or skip the test."""
    folder = Path(os.environ.get("OLLAMA_TW_MINILM", _CACHE / "all-MiniLM-L6-v2"))
    if not (folder / "model.safetensors").is_file():
        pytest.skip("no safetensors of all-MiniLM-L6-v2: run make test, or set OLLAMA_TW_MINILM")
    return folder


def vectors_file(kind: str) -> Path:
    """Return the path of a file of test vectors of Ollama, which may be missing."""
    return SHARED / "vectors" / f"{kind}.jsonl"
