"""Real models; a test whose model is missing is skipped."""

import os
from pathlib import Path

import pytest

from tests.helpers import ROOT

_CACHE = ROOT / ".cache"


def smollm2() -> str:
    """Return the path of the GGUF file of SmolLM2-135M-Instruct, or skip the test."""
    named = os.environ.get("OLLAMA_TW_SMOLLM2")
    found = [Path(named)] if named else sorted(_CACHE.glob("*mol*m2*.gguf"))
    if not found or not found[0].is_file():
        pytest.skip("no SmolLM2: run make test, or set OLLAMA_TW_SMOLLM2 to its GGUF file")
    return str(found[0].resolve())


def minilm() -> dict[str, Path]:
    """Return the safetensors files of all-MiniLM-L6-v2 and the others of its folder, or skip the test."""
    folder = Path(os.environ.get("OLLAMA_TW_MINILM", _CACHE / "all-MiniLM-L6-v2"))
    if not (folder / "model.safetensors").is_file():
        pytest.skip("no safetensors of all-MiniLM-L6-v2: run make test, or set OLLAMA_TW_MINILM")
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
