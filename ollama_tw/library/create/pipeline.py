"""The course of a creation, from the request to the manifest.

Source: ``spec/models-and-cli.md`` sections 4.2 to 4.6.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.files import translate_disk_errors
from ollama_tw.library import manifests
from ollama_tw.library.create.dependencies import Makers
from ollama_tw.library.create.job import Alive, Making, Record
from ollama_tw.library.create.overrides import edit
from ollama_tw.library.create.quantize import refine
from ollama_tw.library.create.request import (
    base_name,
    file_type,
    info_config,
    stub_of,
    target_name,
    validate,
)
from ollama_tw.library.create.sources import add_adapter, add_draft, add_files, inherit
from ollama_tw.library.layers import LayerList
from ollama_tw.library.manifests import (
    Layer,
    Manifest,
    ManifestError,
    ModelConfig,
    encode_config,
    encode_manifest,
)
from ollama_tw.library.store import Store
from ollama_tw.wire.models import CreateRequest

_NO_MAKERS = Makers()


def _always() -> None:
    """An :data:`Alive` for work that nobody can give up."""


def create(
    store: Store, request: CreateRequest, *, makers: Makers = _NO_MAKERS, alive: Alive = _always
) -> Generator[Record, None, None]:
    """Create the model and yield the records of its progress, ``{"status": …}``, to ``success``.

    ``alive`` is called between the records too, and gives the creation up by raising; so does closing
    the generator. Blocking. Raises OllamaError at any step. What is installed changes in the step
    after ``writing manifest``; whatever else was made until a creation ends early is removed.
    """
    validate(request)
    config = info_config(request.info or {})
    for key in ("renderer", "parser", "requires"):
        config[key] = getattr(request, key)
    alive()
    target = store.resolve(target_name(request))
    with translate_disk_errors():
        with _new_layers(store) as layers:
            making = Making(store, makers, alive, layers, config)
            yield from _fill(making, request)
            config_layer = Layer(manifests.CONFIG, *layers.put(encode_config(_config(making))))
            for status in layers.statuses():
                yield {"status": status}
            yield {"status": "writing manifest"}
            alive()
            manifest = Manifest(2, manifests.MANIFEST_TYPE, config_layer, layers.layers)
            try:
                replaced = store.commit(target, encode_manifest(manifest))
            except ManifestError as error:
                raise OllamaError(400, str(error)) from error
            layers.keep(manifest.digests)
        store.collect(replaced)
    yield {"status": "success"}


@contextmanager
def _new_layers(store: Store) -> Iterator[LayerList]:
    """Layers whose blobs nobody else removes within the block. After it, those that were made for
    nothing are removed."""
    with ExitStack() as stack:
        pin = stack.enter_context(store.pinning())
        layers = LayerList(store.blobs, pin)
        try:
            yield layers
        finally:
            stack.close()
            store.discard(layers.created)


def _fill(making: Making, request: CreateRequest) -> Generator[Record, None, None]:
    """Gather the layers and the config."""
    wanted = (request.quantize or request.quantization).upper()
    stub = stub_of(request)
    base = base_name(request)
    if stub is not None:
        making.config.update(remote_host=stub.host, remote_model=stub.model)
    elif base is not None:
        inherit(making, base)
    elif request.files is not None:
        yield from add_files(making, request.files, wanted)
    else:
        raise OllamaError(400, "neither 'from' or 'files' was specified")
    if making.config.get("remote_host"):
        if request.draft_files:
            raise OllamaError(400, "DRAFT cannot be used with remote models")
    else:
        if request.draft_files:
            yield from add_draft(making, request.draft_files, request.draft_quantize.upper())
        if request.adapters:
            yield from add_adapter(making, request.adapters)
        yield from refine(making, file_type(wanted), file_type(request.draft_quantize))
    edit(making, request)


def _config(making: Making) -> ModelConfig:
    return msgspec.convert({**making.config, "model_families": making.families or None}, type=ModelConfig)
