"""Routes of the installed and the loaded models: tags, ps, show, create, copy, delete.

Source: ollama: server/routes.go, ListHandler, PsHandler, ShowHandler, CreateHandler, CopyHandler,
DeleteHandler.
"""

import threading
from typing import Any

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.cloud.policy import Operation
from ollama_tw.concurrency.threads import Reactor
from ollama_tw.http.cloud import CloudRelay
from ollama_tw.http.native.transfers import reporter
from ollama_tw.http.server.replies import read_body, send_empty, send_json
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import ReplyStream, answer
from ollama_tw.library.create import validate
from ollama_tw.management.creation import CreationService
from ollama_tw.management.models import ModelService
from ollama_tw.wire.decode import decode
from ollama_tw.wire.models import CopyRequest, CreateRequest, DeleteRequest, ShowRequest

# This client displays the base name as the name of the model.
_COPILOT = "GitHubCopilotChat/"


class ModelRoutes:
    """Routes of the native API for managing models."""

    def __init__(
        self,
        reactor: Reactor,
        models: ModelService,
        creation: CreationService,
        cloud: CloudRelay,
    ) -> None:
        self._reactor = reactor
        self._models = models
        self._creation = creation
        self._cloud = cloud

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("HEAD GET", "/api/tags", self.tags, Access.READ)
        routes.add("GET", "/api/ps", self.ps, Access.READ)
        routes.add("POST", "/api/show", self.show, Access.READ)
        routes.add("POST", "/api/create", self.create, Access.MANAGE)
        routes.add("POST", "/api/copy", self.copy, Access.MANAGE)
        routes.add("DELETE", "/api/delete", self.delete, Access.MANAGE)

    async def tags(self, request: Request) -> None:
        """List the models; with ``library=true`` in the query without those of backends."""
        library_only = (request.args or {}).get(b"library") == [b"true"]
        send_json(request, {"models": await self._models.tags(library_only=library_only)})

    def ps(self, request: Request) -> None:
        """List the loaded models."""
        send_json(request, {"models": self._models.loaded()})

    async def show(self, request: Request) -> None:
        """Describe a model."""
        body = decode(read_body(request), ShowRequest, go_type="api.ShowRequest")
        sent = body.model or body.name
        if await self._cloud.relay(request, sent, Operation.DETAILS):
            return
        reply = await self._models.show(sent, body)
        if (request.getHeader("User-Agent") or "").startswith(_COPILOT):
            reply["model_info"]["general.basename"] = sent
        send_json(request, reply)

    async def create(self, request: Request) -> None:
        """Create a model, with a stream of progress records unless the body turns it off."""
        body = decode(read_body(request), CreateRequest, go_type="api.CreateRequest")
        validate(body)

        async def work(stream: ReplyStream | None, cancel: threading.Event) -> dict[str, Any] | None:
            last = await self._creation.create(body, reporter(stream), cancel)
            return last if stream is None else None

        await answer(self._reactor, request, body.stream is not False, work)

    async def copy(self, request: Request) -> None:
        """Copy a model to another name."""
        await self._models.copy(decode(read_body(request), CopyRequest, go_type="api.CopyRequest"))
        send_empty(request)

    async def delete(self, request: Request) -> None:
        """Delete a model."""
        body = decode(read_body(request), DeleteRequest, go_type="api.DeleteRequest")
        await self._models.delete(body.model or body.name)
        send_empty(request)
