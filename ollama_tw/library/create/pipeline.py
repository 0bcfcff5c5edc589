"""Steps of a creation, from the request to the manifest.

Source: ollama: server/create.go, CreateHandler, createModel.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.files import translate_disk_errors
from ollama_tw.library import manifests
from ollama_tw.library.create.dependencies import CreateDependencies
from ollama_tw.library.create.job import CheckCancelled, CreationJob, Record
from ollama_tw.library.create.overrides import apply_overrides
from ollama_tw.library.create.quantize import process_weights
from ollama_tw.library.create.request import (
    base_name,
    file_type,
    info_config,
    stub_of,
    target_name,
    validate,
)
from ollama_tw.library.create.sources import add_adapter, add_draft, add_files, check_adapters, inherit
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

_DEFAULT_DEPENDENCIES = CreateDependencies()


def _never_cancelled() -> None:
    """Check for cancellation of a creation that cannot be cancelled."""


def create(
    store: Store,
    request: CreateRequest,
    *,
    dependencies: CreateDependencies = _DEFAULT_DEPENDENCIES,
    check_cancelled: CheckCancelled = _never_cancelled,
) -> Generator[Record, None, None]:
    """Create the model and yield progress records ``{"status": …}``, the last one ``success``.

    ``check_cancelled`` cancels the creation by raising; so does closing the generator. Blocking.
    Raises OllamaError at any step. Installed models change in the step after ``writing manifest``;
    if the creation fails or is cancelled, the blobs that it has added are removed.
    """
    validate(request)
    config = info_config(request.info or {})
    for key in ("renderer", "parser", "requires"):
        config[key] = getattr(request, key)
    check_cancelled()
    target = store.resolve(target_name(request))
    with translate_disk_errors():
        with new_layers(store) as layers:
            job = CreationJob(store, dependencies, check_cancelled, layers, config)
            yield from _fill(job, request)
            config_layer = Layer(manifests.CONFIG, *layers.put(encode_config(_config(job))))
            for status in layers.statuses():
                yield {"status": status}
            yield {"status": "writing manifest"}
            check_cancelled()
            manifest = Manifest(2, manifests.MANIFEST_TYPE, config_layer, layers.layers)
            try:
                replaced = store.commit(target, encode_manifest(manifest))
            except ManifestError as error:
                raise OllamaError(400, str(error)) from error
            layers.keep(manifest.digests)
        store.collect(replaced)
    yield {"status": "success"}


@contextmanager
def new_layers(store: Store) -> Iterator[LayerList]:
    """Yield layers whose blobs are pinned within the block; unused new ones are removed after it."""
    with ExitStack() as stack:
        pin = stack.enter_context(store.pinning())
        layers = LayerList(store.blobs, pin)
        try:
            yield layers
        finally:
            stack.close()
            store.discard(layers.created)


def _fill(job: CreationJob, request: CreateRequest) -> Generator[Record, None, None]:
    """Fill the layers and the config from the request."""
    requested_type = (request.quantize or request.quantization).upper()
    stub = stub_of(request)
    base = base_name(request)
    if stub is not None:
        job.config.update(remote_host=stub.host, remote_model=stub.model)
    elif base is not None:
        inherit(job, base)
    elif request.files is not None:
        yield from add_files(job, request.files, requested_type)
    else:
        raise OllamaError(400, "neither 'from' or 'files' was specified")
    if job.config.get("remote_host"):
        if request.draft_files:
            raise OllamaError(400, "DRAFT cannot be used with remote models")
    else:
        if request.draft_files:
            yield from add_draft(job, request.draft_files, request.draft_quantize.upper())
        if request.adapters:
            yield from add_adapter(job, request.adapters)
        check_adapters(job)
        yield from process_weights(job, file_type(requested_type), file_type(request.draft_quantize))
    apply_overrides(job, request)


def _config(job: CreationJob) -> ModelConfig:
    return msgspec.convert({**job.config, "model_families": job.families or None}, type=ModelConfig)
