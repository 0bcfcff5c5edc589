"""The installed models and the loaded ones: tags, show, create, copy, delete, ps.

Source: ``spec/models-and-cli.md`` sections 4 and 5, ``spec/inference-api.md`` section 5.2.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorFromThreads
from twisted.web.http import Request

from ollama_tw.cloud.policy import Operation
from ollama_tw.engine.loaded import Loaded
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.engine.threads import WorkerPool, detached
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.app import Routes
from ollama_tw.http.cloud import CloudDoor
from ollama_tw.http.replies import read_json, send_empty, send_json
from ollama_tw.http.stream import Emit, ReplyStream, answer_through
from ollama_tw.http.transfers import reporter, stub_name
from ollama_tw.inference.remote import Remotes
from ollama_tw.library.create import create, missing_base, validate
from ollama_tw.library.names import InvalidName, Name, parse_name, split_source
from ollama_tw.library.queries import list_models, show_model
from ollama_tw.library.show import details, show_reply, tags_entry
from ollama_tw.library.store import ModelNotFound, Store
from ollama_tw.registry.pull import Pulls
from ollama_tw.wire.models import CopyRequest, CreateRequest, DeleteRequest, ShowRequest
from ollama_tw.wire.timestamps import rfc3339

T = TypeVar("T")

_SECOND = 10**9


class ModelRoutes:
    """What can be asked of the store, and of the scheduler about its models."""

    def __init__(
        self,
        reactor: IReactorFromThreads,
        store: Store,
        disk: WorkerPool,
        scheduler: Scheduler,
        pulls: Pulls,
        remotes: Remotes,
        cloud: CloudDoor,
        go_template: bool | None = None,
    ) -> None:
        self._go_template = go_template
        self._reactor = reactor
        self._store = store
        self._disk = disk
        self._scheduler = scheduler
        self._pulls = pulls
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
        names = {entry["name"].lower() for entry in installed}
        remote = [tags_entry(one.model, one.header) for one in self._remotes.all()]
        return installed + [entry for entry in remote if entry["name"].lower() not in names]

    async def ps(self, request: Request) -> None:
        send_json(request, {"models": [await self._ps_entry(loaded) for loaded in self._scheduler.loaded()]})

    async def _ps_entry(self, loaded: Loaded) -> dict[str, Any]:
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
        try:
            model = await self._disk.run(self._store.load, parse_name(loaded.name))
        except (ModelNotFound, OllamaError):
            # Deleted while it is loaded: it still takes memory, and still shows.
            return entry
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
        send_json(request, await self._disk.run(self._show, sent, name, body))

    def _show(self, sent: str, name: Name, body: ShowRequest) -> dict[str, Any]:
        try:
            model = self._store.load(self._store.resolve(name))
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
            missing = await self._disk.run(missing_base, self._store, body)
            if missing is not None:
                await self._pulls.pull(missing, False, reporter(stream))
            steps = create(self._store, body)
            emit = None if stream is None else stream.send
            return await self._in_disk(lambda: _last(steps, emit, cancel), cancel)

        await answer_through(self._reactor, request, body.stream is not False, work)

    async def _in_disk(self, work: Callable[[], T], cancel: threading.Event) -> T:
        """``work`` on the disk pool; it goes on to its next step when the client has gone."""
        return await detached(self._disk.run(work), cancel.set)

    async def copy(self, request: Request) -> None:
        body = read_json(request, CopyRequest, "api.CopyRequest")
        source = _name(body.source, f'source "{body.source}" is invalid')
        destination = _name(body.destination, f'destination "{body.destination}" is invalid')
        try:
            await self._disk.run(self._store.copy, source, destination)
        except ModelNotFound as error:
            raise OllamaError(404, f'model "{body.source}" not found') from error
        send_empty(request)

    async def delete(self, request: Request) -> None:
        body = read_json(request, DeleteRequest, "api.DeleteRequest")
        sent = body.model or body.name
        name = _name(stub_name(sent), f'name "{sent}" is invalid')
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


def _last(
    steps: Iterator[dict[str, Any]], emit: Emit | None, cancel: threading.Event
) -> dict[str, Any] | None:
    """Take the steps; their records go to ``emit``, or the last of them is returned."""
    last: dict[str, Any] = {}
    for last in steps:
        if cancel.is_set():
            raise Cancelled
        if emit is not None:
            emit(last)
    return last if emit is None else None
