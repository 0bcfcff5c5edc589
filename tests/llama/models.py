"""Paths of the real models of these tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("OLLAMA_TW_SHARED", ROOT.parent / "shared"))


def smollm2() -> str:
    """Return the path of SmolLM2-135M-Instruct, or skip the test."""
    named = os.environ.get("OLLAMA_TW_SMOLLM2")
    found = [Path(named)] if named else sorted((ROOT / ".cache").glob("*mol*m2*.gguf"))
    if not found or not found[0].is_file():
        pytest.skip("no SmolLM2: set OLLAMA_TW_SMOLLM2, or put its GGUF file into .cache/")
    return str(found[0])


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 and its reference vectors, or skip the test."""
    data = SHARED / "data"
    if not (data / "all-minilm-l6-v2-f16.gguf").is_file():
        pytest.skip("no all-MiniLM-L6-v2: set OLLAMA_TW_SHARED")
    return data
