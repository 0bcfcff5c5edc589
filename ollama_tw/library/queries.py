"""Replies about installed models, each computed in one blocking call on the disk pool."""

import logging
from collections.abc import Iterable
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import GGUFError, Header
from ollama_tw.library.model import Model
from ollama_tw.library.show import model_capabilities, show_reply, tags_entry
from ollama_tw.library.store import Store
from ollama_tw.library.tensor_models import describe
from ollama_tw.wire.models import ShowRequest

_LOG = logging.getLogger("ollama_tw.library")


def list_models(store: Store, models: Iterable[Model]) -> list[dict[str, Any]]:
    """Return the entries of ``/api/tags`` for ``models``, also for those whose weights are damaged."""
    return [tags_entry(model, _brief_header(store, model)) for model in models]


def show_model(
    store: Store,
    model: Model,
    request: ShowRequest,
    *,
    go_template_setting: bool | None = None,
) -> dict[str, Any]:
    """Return the reply to ``/api/show``; raises OllamaError 500 if the model's files cannot be read."""
    try:
        return show_reply(
            model,
            model_header(store, model),
            projector_headers(store, model),
            system=request.system,
            options=request.options,
            verbose=request.verbose,
            tensor_model=None if model.is_gguf or model.is_remote else describe(store.blobs, model),
            go_template_setting=go_template_setting,
        )
    except (GGUFError, OSError) as error:
        raise OllamaError(500, f"the file of model '{model.name.short}' cannot be read") from error


def capabilities(
    store: Store,
    model: Model,
    *,
    go_template_setting: bool | None = None,
) -> list[str]:
    """Return the capabilities as in ``/api/show``; raises OllamaError 500 if a file cannot be read."""
    return model_capabilities(
        model,
        model_header(store, model),
        projector_headers(store, model),
        go_template_setting=go_template_setting,
    )


def model_header(store: Store, model: Model) -> Header | None:
    """Return the header of the model's GGUF file, None if it has none; raises OllamaError 500."""
    return store.header(model) if model.has_gguf else None


def projector_headers(store: Store, model: Model) -> list[Header]:
    """Return the headers of the model's projector files; raises OllamaError 500."""
    return [store.header_of(digest) for digest in model.projector_digests]


def _brief_header(store: Store, model: Model) -> Header | None:
    if not model.has_gguf:
        return None
    try:
        return store.header(model, brief=True)
    except OllamaError as error:
        _LOG.warning("model '%s' is listed without its file's details: %s", model.name.short, error.message)
        return None
