"""The request's texts and parameters, applied to the layers.

Source: ``spec/models-and-cli.md`` sections 4.6 and 4.7.
"""

from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.library import manifests
from ollama_tw.library.create.job import Making
from ollama_tw.library.layers import decode_params, encode_messages, encode_params, licenses
from ollama_tw.templates.gotemplate import TemplateError, parse
from ollama_tw.wire.models import CreateRequest

# Architectures whose prompts Ollama writes by a built-in renderer: renderer, parser.
_NEMOTRON = ("nemotron-3-nano", "nemotron-3-nano")
_BUILT_IN = {
    "gemma4": ("gemma4", "gemma4"),
    "laguna": ("laguna", "laguna"),
    "nemotron_h": _NEMOTRON,
    "nemotron_h_moe": _NEMOTRON,
    "nemotron_h_omni": _NEMOTRON,
}
_GEMMA4_STOP = "<turn|>"


def edit(making: Making, request: CreateRequest) -> None:
    """Apply the request's texts and parameters, in Ollama's order; raises OllamaError."""
    layers = making.layers
    defaults = _built_in_defaults(making)
    if request.template:
        _check_template(request.template)
        layers.replace((manifests.TEMPLATE, manifests.PROMPT), request.template.encode())
    if request.system:
        layers.replace((manifests.SYSTEM,), request.system.encode())
    for text in licenses(request.license):
        layers.append(manifests.LICENSE, text.encode())
    params = {**defaults, **decode_params(layers.last(manifests.PARAMS)), **(request.parameters or {})}
    if params:
        layers.replace((manifests.PARAMS,), encode_params(params))
    if request.messages:
        layers.replace((manifests.MESSAGES,), encode_messages(request.messages))


def _check_template(text: str) -> None:
    """Raise OllamaError 400 for a Go template that does not parse."""
    try:
        parse(text)
    except TemplateError as error:
        raise OllamaError(400, f"template error: {error.message}") from error


def _built_in_defaults(making: Making) -> dict[str, Any]:
    """Set renderer and parser where the architecture has its own; returns its parameters."""
    built_in = _BUILT_IN.get(making.families[0]) if making.families else None
    if built_in is None:
        return {}
    for key, value in zip(("renderer", "parser"), built_in, strict=True):
        making.config[key] = making.config.get(key) or value
    return {"stop": [_GEMMA4_STOP]} if built_in[0] == "gemma4" else {}
