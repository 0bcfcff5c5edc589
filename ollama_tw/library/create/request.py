"""Validation and interpretation of create requests.

Source: ollama: server/create.go, CreateHandler; server/quantization.go.
"""

from collections.abc import Mapping
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.library.create.stubs import StubTarget, normal_host
from ollama_tw.library.digests import parse_digest
from ollama_tw.library.names import InvalidName, Name, ReferenceSource, parse_name, split_source
from ollama_tw.library.store import ModelNotFound, Store
from ollama_tw.wire.models import CreateRequest

_CLOUD = "https://ollama.com:443"

_FILE_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_K_S", "Q4_K_M")
_INFO_TEXTS = {
    "model_family": "model_family",
    "base_name": "base_name",
    "quantization_level": "file_type",
    "parameter_size": "model_type",
}
_INFO_NUMBERS = ("context_length", "embedding_length")


def validate(request: CreateRequest) -> None:
    """Raise OllamaError 400 for a request that is rejected before the first record."""
    target_name(request)
    for files in (request.files, request.draft_files):
        for path in files or ():
            if not _is_relative(path):
                raise OllamaError(400, "file path must be relative")
    for files in (request.files, request.draft_files, request.adapters):
        for digest in (files or {}).values():
            parse_digest(digest)
    if request.draft_quantize and not request.draft_files:
        raise OllamaError(400, "--draft-quantize requires a DRAFT model")


def target_name(request: CreateRequest) -> Name:
    """Return the name of the model to create; raises OllamaError 400 if it is invalid."""
    return _name(request.model or request.name)


def base_name(request: CreateRequest) -> Name | None:
    """Return the model in ``from``, None without one or for a stub; raises OllamaError 400."""
    if not request.from_ or stub_of(request) is not None:
        return None
    return _name(_split(request.from_)[0])


def stub_of(request: CreateRequest) -> StubTarget | None:
    """Return the remote model for which the request creates a stub, None if it creates none.

    Raises OllamaError 400 for an invalid name or host.
    """
    if not request.from_:
        return None
    base, source = _split(request.from_)
    if not request.remote_host and source is not ReferenceSource.CLOUD:
        return None
    _name(base)
    return StubTarget(normal_host(request.remote_host) if request.remote_host else _CLOUD, base)


def missing_base(store: Store, request: CreateRequest) -> Name | None:
    """Return the model in ``from`` if it is not installed and has to be pulled, else None."""
    name = base_name(request)
    if name is None:
        return None
    try:
        store.manifest_bytes(name)
    except ModelNotFound:
        return name
    return None


def file_type(text: str) -> str:
    """Return the canonical file type for ``text``, "" for ""; raises OllamaError 400 for others."""
    canonical = text.upper()
    if canonical == "Q4_K":
        return "Q4_K_M"
    if canonical and canonical not in _FILE_TYPES:
        # As in Ollama, BF16 is supported but not in the list.
        raise OllamaError(
            400,
            f"unsupported quantization type {canonical} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0",
        )
    return canonical


def info_config(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config fields that ``info`` sets; raises OllamaError 400 for a value of another type."""
    config: dict[str, Any] = {}
    if (capabilities := info.get("capabilities")) is not None:
        if not isinstance(capabilities, list) or not all(isinstance(item, str) for item in capabilities):
            raise OllamaError(400, 'info field "capabilities" must be an array of strings')
        config["capabilities"] = list(capabilities)
    for key, target in _INFO_TEXTS.items():
        if (text := info.get(key)) is not None:
            if not isinstance(text, str):
                raise OllamaError(400, f'info field "{key}" must be a string')
            config[target] = text
    for key in _INFO_NUMBERS:
        if (number := info.get(key)) is not None:
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise OllamaError(400, f'info field "{key}" must be a number')
            if not 0 <= number < 2**63 or number != int(number):
                raise OllamaError(400, f'info field "{key}" must be a non-negative integer')
            config[key] = int(number)
    return config


def _split(reference: str) -> tuple[str, ReferenceSource]:
    try:
        return split_source(reference)
    except OllamaError as error:
        raise OllamaError(400, "invalid model name") from error


def _name(text: str) -> Name:
    try:
        return parse_name(text)
    except InvalidName as error:
        raise OllamaError(400, "invalid model name") from error


def _is_relative(path: str) -> bool:
    return all(element not in ("", ".", "..") for element in path.split("/"))
