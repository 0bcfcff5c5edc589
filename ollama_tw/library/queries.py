"""Replies about installed models, each computed in one blocking call on the disk pool."""

import logging
from collections.abc import Sequence
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import GGUFError, Header
from ollama_tw.library.model import Model
from ollama_tw.library.show import model_capabilities, show_reply, tags_entry
from ollama_tw.library.store import Store
from ollama_tw.library.tensor_models import describe
from ollama_tw.wire.models import ShowRequest

_LOG = logging.getLogger("ollama_tw.library")


class ModelList:
    """The entries of ``/api/tags`` for the models of ``store``.

    The capabilities need the chat template behind the vocabulary of each file, so they are computed once for
    each model. ``go_template_setting`` is OLLAMA_GO_TEMPLATE. Thread-safe.
    """

    def __init__(self, store: Store, *, go_template_setting: bool | None = None) -> None:
        self._store = store
        self._go_template_setting = go_template_setting
        self._known: dict[str, list[str]] = {}
        """Capabilities by the digest of the manifest."""

    def entries(self, models: Sequence[Model]) -> list[dict[str, Any]]:
        """Return the entries of ``models``, also of those whose weights are damaged. Blocking."""
        known = {model.digest: self._capabilities(model) for model in models}
        self._known = {digest: found for digest, found in known.items() if found is not None}
        return [
            tags_entry(model, _brief_header(self._store, model), known[model.digest] or ())
            for model in models
        ]

    def _capabilities(self, model: Model) -> list[str] | None:
        """Return the capabilities of ``model``, None if a file of it cannot be read."""
        known = self._known.get(model.digest)
        if known is not None:
            return known
        try:
            return capabilities(self._store, model, go_template_setting=self._go_template_setting)
        except OllamaError:
            return None


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
