"""The installed models and the loaded ones: tags, show, create, copy, delete, ps.

Source: ``spec/models-and-cli.md`` sections 4 and 5, ``spec/inference-api.md`` section 5.2.
"""

import threading
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.web.http import Request

from ollama_tw.cloud.policy import Operation
from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.errors import OllamaError
from ollama_tw.golang.fmt import quote
from ollama_tw.http.cloud import CloudRelay
from ollama_tw.http.native.transfers import reporter, stub_name
from ollama_tw.http.server.replies import read_json, send_empty, send_json
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import ReplyStream, answer_through
from ollama_tw.inference.backend_models import BackendModels
from ollama_tw.library.create import validate
from ollama_tw.library.names import InvalidName, Name, parse_name, split_source
from ollama_tw.library.queries import list_models, show_model
from ollama_tw.library.show import details, show_reply, tags_entry
from ollama_tw.library.store import ModelNotFound, Store
from ollama_tw.management.creation import Creations
from ollama_tw.wire.models import CopyRequest, CreateRequest, DeleteRequest, ShowRequest
from ollama_tw.wire.timestamps import rfc3339

_SECOND = 10**9

# This client takes the base name for the model's name.
_COPILOT = "GitHubCopilotChat/"


class ModelRoutes:
    """What can be asked of the store, and of the scheduler about its models."""

    def __init__(
        self,
        reactor: IReactorFromThreads,
        store: Store,
        disk: WorkerPool,
        scheduler: Scheduler,
        creations: Creations,
        remotes: BackendModels,
        cloud: CloudRelay,
        go_template: bool | None = None,
    ) -> None:
        self._go_template = go_template
        self._reactor = reactor
        self._store = store
        self._disk = disk
        self._scheduler = scheduler
        self._creations = creations
        self._remotes = remotes
        self._cloud = cloud

    def register(self, routes: Routes) -> None:
        routes.add("HEAD GET", "/api/tags", self.tags)
        routes.add("GET", "/api/ps", self.ps)
        routes.add("POST", "/api/show", self.show)
        routes.add("POST", "/api/create", self.create)
        routes.add("POST", "/api/copy", self.copy)
        routes.add("DELETE", "/api/delete", self.delete)

    async def tags(self, request: Request) -> None:
        send_json(request, {"models": await self._disk.run(self._tags)})

    def _tags(self) -> list[dict[str, Any]]:
        installed = list_models(self._store)
        names = [parse_name(entry["name"]) for entry in installed]
        return installed + [tags_entry(one.model, one.header) for one in self._remotes.all(names)]

    async def ps(self, request: Request) -> None:
        send_json(request, {"models": [await self._ps_entry(loaded) for loaded in self._scheduler.loaded()]})

    async def _ps_entry(self, loaded: LoadedModel) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "name": loaded.name,
            "model": loaded.name,
            "size": loaded.runner.size,
            "digest": "",
            "details": {},
            "expires_at": rfc3339(int(loaded.expires_at * _SECOND)),
            "size_vram": loaded.runner.size_gpu,
            "context_length": loaded.runner.context_length,
        }
        name = parse_name(loaded.name)
        try:
            model = await self._disk.run(self._store.load, name)
        except (ModelNotFound, OllamaError):
            remote = self._remotes.known(name)
            if remote is None:
                # Deleted while it is loaded: it still takes memory, and still shows.
                return entry
            model = remote.model
        entry["digest"] = model.digest
        entry["details"] = {**details(model, None), "parent_model": ""}
        return entry

    async def show(self, request: Request) -> None:
        body = read_json(request, ShowRequest, "api.ShowRequest")
        sent = body.model or body.name
        if await self._cloud.takes(request, sent, Operation.DETAILS):
            return
        base, _source = split_source(sent)
        name = _name(base, "invalid model name")
        reply = await self._disk.run(self._show, sent, name, body)
        if (request.getHeader("User-Agent") or "").startswith(_COPILOT):
            reply["model_info"]["general.basename"] = sent
        send_json(request, reply)

    def _show(self, sent: str, name: Name, body: ShowRequest) -> dict[str, Any]:
        name = self._store.resolve(name)
        try:
            model = self._store.load(name)
        except ModelNotFound as error:
            remote = self._remotes.find(name)
            if remote is None:
                raise OllamaError(404, f"model '{name.short}' not found") from error
            return show_reply(remote.model, remote.header, system=body.system, options=body.options)
        self._cloud.check_stub(sent, model)
        return show_model(self._store, model, body, go_template_setting=self._go_template)

    async def create(self, request: Request) -> None:
        body = read_json(request, CreateRequest, "api.CreateRequest")
        validate(body)

        async def work(stream: ReplyStream | None, cancel: threading.Event) -> dict[str, Any] | None:
            last = await self._creations.create(body, reporter(stream), cancel)
            return last if stream is None else None

        await answer_through(self._reactor, request, body.stream is not False, work)

    async def copy(self, request: Request) -> None:
        body = read_json(request, CopyRequest, "api.CopyRequest")
        source = _name(body.source, f"source {quote(body.source)} is invalid")
        destination = _name(body.destination, f"destination {quote(body.destination)} is invalid")
        try:
            await self._disk.run(self._store.copy, source, destination)
        except ModelNotFound as error:
            raise OllamaError(404, f"model {quote(body.source)} not found") from error
        send_empty(request)

    async def delete(self, request: Request) -> None:
        body = read_json(request, DeleteRequest, "api.DeleteRequest")
        sent = body.model or body.name
        name = _name(stub_name(sent), f"name {quote(sent)} is invalid")
        try:
            await self._disk.run(self._store.delete, name)
        except ModelNotFound as error:
            raise OllamaError(404, f"model '{sent}' not found") from error
        send_empty(request)


def _name(text: str, complaint: str) -> Name:
    try:
        return parse_name(text)
    except InvalidName as error:
        raise OllamaError(400, complaint) from error
