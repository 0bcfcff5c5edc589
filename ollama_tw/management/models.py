"""Model management: list, show, copy and delete models, and list the loaded ones.

One service for the native API and OpenAI's. Creating models is in ``management/creation.py``, running
them in ``inference/``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ollama_tw.cloud.policy import CloudPolicy, Operation
from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.configfile.document import LiveDocument
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.errors import OllamaError
from ollama_tw.golang.quoting import quote
from ollama_tw.library.backend_models import BackendModel, BackendModels
from ollama_tw.library.model import Model
from ollama_tw.library.names import (
    InvalidName,
    ModelReference,
    Name,
    ReferenceSource,
    parse_name,
    parse_reference,
    stub_name,
)
from ollama_tw.library.queries import ModelList, show_model
from ollama_tw.library.show import model_capabilities, show_reply, tags_entry
from ollama_tw.library.store import ModelNotFound, Store
from ollama_tw.management.ps import loaded_record
from ollama_tw.wire.models import CopyRequest, LoadedModelRecord, ShowRequest

T = TypeVar("T")


class ModelService:
    """Lists, shows, copies and deletes models: those of the store, then those that backends list.

    Methods are called on the reactor thread; disk access and calls of backends run on ``disk``. All
    raise :class:`OllamaError`. ``go_template`` is ``OLLAMA_GO_TEMPLATE``; ``policy`` decides whether
    details of a stub may be given, ``configured`` has aliases.
    """

    def __init__(
        self,
        store: Store,
        disk: WorkerPool,
        scheduler: Scheduler,
        backend_models: BackendModels,
        policy: CloudPolicy,
        go_template: bool | None = None,
        configured: LiveDocument | None = None,
    ) -> None:
        self._configured = configured or LiveDocument()
        self._store = store
        self._disk = disk
        self._scheduler = scheduler
        self._backend_models = backend_models
        self._policy = policy
        self._go_template = go_template
        self._list = ModelList(store, go_template_setting=go_template)

    async def all(self) -> list[Model]:
        """Return all models, those of the store in its order."""
        installed, listed = await self._disk.run(self._listing)
        return [*installed, *(one.model for one in listed)]

    async def tags(self, *, library_only: bool = False) -> list[dict[str, Any]]:
        """Return the entries of ``/api/tags``, in the order of :meth:`all`.

        The aliases of models follow. ``library_only`` leaves out both these and the models that backends
        list: servers may list each other's models.
        """

        def entries() -> list[dict[str, Any]]:
            installed, listed = (self._store.list(), []) if library_only else self._listing()
            found = [
                *self._list.entries(installed),
                *(
                    tags_entry(one.model, one.header, model_capabilities(one.model, one.header))
                    for one in listed
                ),
            ]
            if library_only:
                return found
            aliases = self._aliases({entry["name"].lower(): entry for entry in found})
            return [
                *found,
                *(
                    {**entry, "name": name, "model": name, "alias_of": entry["name"]}
                    for name, entry in aliases
                ),
            ]

        return await self._disk.run(entries)

    def aliases(self, models: Sequence[Model]) -> list[tuple[str, Model]]:
        """Return the aliases of ``models``, the result of :meth:`all`, with the model of each."""
        return self._aliases({model.name.short.lower(): model for model in models})

    def _aliases(self, by_name: Mapping[str, T]) -> list[tuple[str, T]]:
        """Return the configured aliases of what is in ``by_name``, by short names in lower case."""
        found = []
        for alias in self._configured.current.aliases.values():
            target = by_name.get(parse_reference(alias.target).name.short.lower())
            if target is not None:
                found.append((alias.name, target))
        return found

    async def read_ahead(self) -> None:
        """Read the models of the store once, so that the first listing is fast."""
        await self._disk.run(lambda: self._list.entries(self._store.list()))

    def _listing(self) -> tuple[list[Model], list[BackendModel]]:
        installed = self._store.list()
        return installed, self._backend_models.all(one.name for one in installed)

    def loaded(self) -> list[LoadedModelRecord]:
        """Return the entries of ``/api/ps``: the loaded models, the one that expires last first.

        A model that was deleted since it was loaded is still listed, because it still takes memory.
        """
        return [loaded_record(loaded) for loaded in self._scheduler.loaded()]

    async def find(self, reference: ModelReference) -> Model:
        """Return the model that ``reference`` refers to."""
        target = self._configured.resolve_alias(reference.sent)
        if target != reference.sent:
            reference = parse_reference(target)
        found = await self._disk.run(self._find, reference)
        return found.model if isinstance(found, BackendModel) else found

    async def show(self, sent: str, request: ShowRequest) -> dict[str, Any]:
        """Return the reply to ``/api/show`` for the model reference ``sent``."""
        reference = parse_reference(self._configured.resolve_alias(sent))

        def reply() -> dict[str, Any]:
            found = self._find(reference)
            if isinstance(found, BackendModel):
                return show_reply(found.model, found.header, system=request.system, options=request.options)
            return show_model(self._store, found, request, go_template_setting=self._go_template)

        return await self._disk.run(reply)

    def _find(self, reference: ModelReference) -> Model | BackendModel:
        """Return the model, compared without case; on a disk thread.

        Raises 404 for a missing model and for a stub that is asked for as a local model, and 403 for a
        stub while the cloud is turned off.
        """
        name = self._store.resolve(reference.name)
        try:
            model = self._store.load(name)
        except ModelNotFound as error:
            listed = self._backend_models.find(name)
            if listed is None:
                raise OllamaError(404, f"model '{name.short}' not found") from error
            return listed
        if model.is_remote:
            if reference.source is ReferenceSource.LOCAL:
                raise OllamaError(404, f"model '{reference.sent}' not found")
            self._policy.require(Operation.DETAILS)
        return model

    async def copy(self, request: CopyRequest) -> None:
        """Copy a model to another name; an existing model of that name is replaced."""
        source = _parsed(request.source, f"source {quote(request.source)} is invalid")
        destination = _parsed(request.destination, f"destination {quote(request.destination)} is invalid")
        try:
            await self._disk.run(self._store.copy, source, destination)
        except ModelNotFound as error:
            raise OllamaError(404, f"model {quote(request.source)} not found") from error

    async def delete(self, sent: str) -> None:
        """Delete the model that the reference ``sent`` refers to; a loaded one stays loaded."""
        name = _parsed(stub_name(sent), f"name {quote(sent)} is invalid")
        try:
            await self._disk.run(self._store.delete, name)
        except ModelNotFound as error:
            raise OllamaError(404, f"model '{sent}' not found") from error


def _parsed(text: str, message: str) -> Name:
    try:
        return parse_name(text)
    except InvalidName as error:
        raise OllamaError(400, message) from error
