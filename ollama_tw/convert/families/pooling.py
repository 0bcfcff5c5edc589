"""Pooling and normalization of embedding models, from the files of sentence-transformers."""

from typing import Any

from ollama_tw.convert.files import JsonObject, SourceFiles
from ollama_tw.errors import OllamaError

# enum llama_pooling_type
MEAN, FIRST, LAST = 1, 2, 3
_BY_NAME = {"mean": MEAN, "cls": FIRST, "lasttoken": LAST}
_BY_FLAG = {
    "pooling_mode_mean_tokens": MEAN,
    "pooling_mode_cls_token": FIRST,
    "pooling_mode_lasttoken": LAST,
}


def pooling_type(files: SourceFiles) -> int | None:
    """Return llama.cpp's pooling type, None if the files do not configure pooling.

    Raises OllamaError 400 for a type that llama.cpp does not support.
    """
    document = files.document(f"{_folder(files)}/config.json")
    if document is None:
        return None
    name = document.values.get("pooling_mode")
    chosen = [name] if name is not None else [key for key in document.values if _is_chosen(document, key)]
    kinds = _BY_NAME if name is not None else _BY_FLAG
    if len(chosen) != 1 or not isinstance(chosen[0], str) or chosen[0] not in kinds:
        raise OllamaError(400, "unsupported pooling: exactly one of mean, cls and lasttoken is supported")
    return kinds[chosen[0]]


def normalizes(files: SourceFiles) -> bool:
    """Return whether the vectors are normalized to length 1."""
    return any(_type(module).endswith(".Normalize") for module in _modules(files))


def _folder(files: SourceFiles) -> str:
    for module in _modules(files):
        if _type(module).endswith(".Pooling"):
            return str(module.get("path", ""))
    return "1_Pooling"


def _is_chosen(document: JsonObject, key: str) -> bool:
    return key.startswith("pooling_mode_") and document.values[key] is True


def _modules(files: SourceFiles) -> list[dict[str, Any]]:
    modules = files.value("modules.json")
    return [module for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []


def _type(module: dict[str, Any]) -> str:
    return str(module.get("type", ""))
