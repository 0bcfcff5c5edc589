"""Creating a model: from an installed one, from uploaded files, or as a stub of one that runs elsewhere.

Source: ``spec/models-and-cli.md`` sections 4.1 to 4.9.
"""

from ollama_tw.library.create.dependencies import (
    ConvertAdapter,
    ConvertModel,
    Makers,
    Quantize,
    Write,
)
from ollama_tw.library.create.pipeline import create
from ollama_tw.library.create.request import base_name, missing_base, target_name, validate

__all__ = [
    "ConvertAdapter",
    "ConvertModel",
    "Makers",
    "Quantize",
    "Write",
    "base_name",
    "create",
    "missing_base",
    "target_name",
    "validate",
]
