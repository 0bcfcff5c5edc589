"""Replies of ``/api/show`` and ``/api/tags`` for one model.

Keys are in Ollama's order; the replies are plain data for :func:`ollama_tw.golang.json.encode`.

Source: ollama: server/routes.go, ListHandler, GetModelInfo.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from ollama_tw.gguf.reader import ArrayRef, Header, is_byte_array
from ollama_tw.gguf.types import UNKNOWN_FILE_TYPE
from ollama_tw.golang.json import json_numbers
from ollama_tw.library.capabilities import show_capabilities
from ollama_tw.library.model import DEFAULT_TEMPLATE, Model
from ollama_tw.library.modelfile.description import modelfile_text, parameters_text
from ollama_tw.library.rendering import PromptPath, Rendering, choose_rendering
from ollama_tw.library.tensor_models import TensorModel
from ollama_tw.templates.gotemplate import template_traits
from ollama_tw.wire.timestamps import rfc3339

# Omitted from the metadata, as by Ollama; the chat template has a field of its own.
_HIDDEN_KEYS = frozenset({"general.name", "tokenizer.chat_template"})

# Items of all arrays together, three times the largest known vocabulary with merges; others are null.
_MAX_SHOWN_ITEMS = 4 << 20


def model_rendering(
    model: Model,
    header: Header | None,
    *,
    go_template_setting: bool | None = None,
) -> Rendering:
    """Return the prompt rendering of ``model``; ``go_template_setting`` is OLLAMA_GO_TEMPLATE."""
    return choose_rendering(
        model.config,
        go_template=model.template,
        traits=template_traits(_template_text(model)),
        chat_template=header.chat_template if header else None,
        go_template_setting=go_template_setting,
    )


def model_capabilities(
    model: Model,
    header: Header | None,
    projectors: Sequence[Header] = (),
    *,
    go_template_setting: bool | None = None,
) -> list[str]:
    """Return the capabilities of a model; requests are checked against these."""
    return show_capabilities(
        model.config,
        header,
        projectors,
        model_rendering(model, header, go_template_setting=go_template_setting),
        template_traits(_template_text(model)),
        has_go_template=model.template is not None,
    )


def details(model: Model, header: Header | None) -> dict[str, Any]:
    """Return the ``details`` of a model; an unknown quantization is replaced by that of its file."""
    config = model.config
    quantization = config.file_type
    if quantization in ("", UNKNOWN_FILE_TYPE) and header is not None:
        quantization = header.file_type if header.file_type != UNKNOWN_FILE_TYPE else quantization
    return {
        "parent_model": model.parent_model,
        "format": config.model_format,
        "family": config.model_family,
        "families": config.model_families,
        "parameter_size": config.model_type,
        "quantization_level": quantization,
    }


def tags_entry(model: Model, header: Header | None, capabilities: Sequence[str]) -> dict[str, Any]:
    """Return the entry of ``/api/tags``; ``header`` may be brief, None if there is no GGUF file.

    The ``capabilities`` are those of :func:`model_capabilities`.
    """
    config = model.config
    entry: dict[str, Any] = {"name": model.name.short, "model": model.name.short}
    if config.remote_model:
        entry["remote_model"] = config.remote_model
    if config.remote_host:
        entry["remote_host"] = config.remote_host
    entry["modified_at"] = rfc3339(model.modified_ns)
    entry["size"] = model.size
    entry["digest"] = model.digest
    entry["details"] = details(model, header)
    for key, configured in (
        ("context_length", config.context_length),
        ("embedding_length", config.embedding_length),
    ):
        if length := configured or (header.get_int(key) if header else 0):
            entry["details"][key] = length
    if capabilities:
        entry["capabilities"] = list(capabilities)
    return entry


def show_reply(
    model: Model,
    header: Header | None,
    projectors: Sequence[Header] = (),
    *,
    system: str = "",
    options: Mapping[str, Any] | None = None,
    verbose: bool = False,
    tensor_model: TensorModel | None = None,
    go_template_setting: bool | None = None,
) -> dict[str, Any]:
    """Return the reply to ``/api/show``.

    ``header`` is None for a model without a GGUF file, which ``tensor_model`` may describe.
    ``system`` and ``options`` override those of the model. ``verbose`` reads the metadata's arrays
    from the file and raises OSError or GGUFError if that fails.
    """
    rendering = model_rendering(model, header, go_template_setting=go_template_setting)
    native = rendering.path is PromptPath.NATIVE and header is not None and header.chat_template
    reply: dict[str, Any] = {
        "license": "\n".join(model.licenses),
        "modelfile": modelfile_text(model, system=system, options=options),
        "parameters": parameters_text(model.params),
        "template": native or _template_text(model),
        "system": system or model.system,
        "details": details(model, header),
        "messages": [
            {"role": message.get("role", ""), "content": message.get("content", "")}
            for message in model.messages
        ],
        "remote_model": model.config.remote_model,
        "remote_host": model.config.remote_host,
        "model_info": _model_info(model, header, verbose),
    }
    if projectors:
        reply["projector_info"] = _metadata(projectors[0], verbose, hidden=frozenset())
    if header is not None:
        reply["tensors"] = [
            {"name": tensor.name, "type": tensor.type.name, "shape": list(tensor.shape)}
            for tensor in header.tensors
        ]
    if tensor_model is not None:
        reply["details"]["family"] = tensor_model.architecture
        reply["model_info"] = tensor_model.info
        if verbose:
            reply["tensors"] = tensor_model.tensors
    reply["capabilities"] = model_capabilities(
        model, header, projectors, go_template_setting=go_template_setting
    )
    reply["modified_at"] = rfc3339(model.modified_ns)
    reply["requires"] = model.config.requires
    always = ("details", "model_info", "modified_at")
    return {key: value for key, value in reply.items() if value or key in always}


def _template_text(model: Model) -> str:
    return DEFAULT_TEMPLATE if model.template is None else model.template


def _model_info(model: Model, header: Header | None, verbose: bool) -> dict[str, Any]:
    if header is not None:
        return _metadata(header, verbose, hidden=_HIDDEN_KEYS)
    config = model.config
    if not (model.is_remote and config.model_family):
        return {}
    info: dict[str, Any] = {"general.architecture": config.model_family}
    if config.base_name:
        info["general.basename"] = config.base_name
    for key, length in (
        ("context_length", config.context_length),
        ("embedding_length", config.embedding_length),
    ):
        if length:
            info[f"{config.model_family}.{key}"] = length
    return info


def _metadata(header: Header, verbose: bool, *, hidden: frozenset[str]) -> dict[str, Any]:
    """Return the file's keys in Go's map order; non-empty arrays are None unless ``verbose``."""
    remaining = _MAX_SHOWN_ITEMS
    info: dict[str, Any] = {"general.parameter_count": header.parameter_count}
    for key, value in header.metadata.items():
        if key in hidden or key == "general.parameter_count":
            continue
        if not isinstance(value, ArrayRef):
            info[key] = json_numbers(value)
        elif value.count == 0:
            info[key] = []
        elif not verbose or value.count > remaining:
            info[key] = None
        else:
            remaining -= value.count
            info[key] = _items(header, key, value)
    return dict(sorted(info.items()))


def _items(header: Header, key: str, array: ArrayRef) -> Any:
    items = header.array(key)
    if is_byte_array(array):
        return base64.b64encode(bytes(items)).decode()
    return json_numbers(items) if isinstance(items[0], float) else items
