"""Template, system text, licenses, parameters and messages of the request, applied to the layers.

Source: ollama: server/create.go, createModel.
"""

from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.library import manifests
from ollama_tw.library.create.job import CreationJob
from ollama_tw.library.layers import decode_params, encode_messages, encode_params, license_texts
from ollama_tw.templates.gotemplate import TemplateError, parse
from ollama_tw.wire.models import CreateRequest

# Names of the renderer and parser that Ollama has for an architecture.
_NEMOTRON = ("nemotron-3-nano", "nemotron-3-nano")
_BUILT_IN = {
    "gemma4": ("gemma4", "gemma4"),
    "laguna": ("laguna", "laguna"),
    "nemotron_h": _NEMOTRON,
    "nemotron_h_moe": _NEMOTRON,
    "nemotron_h_omni": _NEMOTRON,
}
_GEMMA4_STOP = "<turn|>"


def apply_overrides(job: CreationJob, request: CreateRequest) -> None:
    """Apply the request's texts and parameters in Ollama's order; raises OllamaError."""
    layers = job.layers
    defaults = _built_in_defaults(job)
    if request.template:
        _check_template(request.template)
        layers.replace((manifests.TEMPLATE, manifests.PROMPT), request.template.encode())
    if request.system:
        layers.replace((manifests.SYSTEM,), request.system.encode())
    for text in license_texts(request.license):
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


def _built_in_defaults(job: CreationJob) -> dict[str, Any]:
    """Set the built-in renderer and parser of the architecture and return its default parameters.

    A file without a chat template gets none: the name stands for what the template does.
    """
    built_in = _BUILT_IN.get(job.families[0]) if job.families else None
    if built_in is None:
        return {}
    models = [layer.digest for layer in job.layers.layers if layer.media_type == manifests.MODEL]
    if not any(job.store.header_of(digest).chat_template for digest in models):
        built_in = ("", "")
    for key, value in zip(("renderer", "parser"), built_in, strict=True):
        job.config[key] = job.config.get(key) or value
    return {"stop": [_GEMMA4_STOP]} if job.families[0] == "gemma4" else {}
