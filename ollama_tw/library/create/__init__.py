"""Creation of models: from installed ones, from uploaded files, or as stubs of remote models.

Source: ollama: server/create.go, CreateHandler.
"""

from ollama_tw.library.create.dependencies import (
    ConvertAdapter,
    ConvertModel,
    CreateDependencies,
    Quantize,
    Write,
)
from ollama_tw.library.create.pipeline import create
from ollama_tw.library.create.request import base_name, missing_base, target_name, validate

__all__ = [
    "ConvertAdapter",
    "ConvertModel",
    "CreateDependencies",
    "Quantize",
    "Write",
    "base_name",
    "create",
    "missing_base",
    "target_name",
    "validate",
]
