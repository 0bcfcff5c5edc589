"""Routes that pull models from registries and push them there.

Source: ollama: server/routes.go, PullHandler, PushHandler.
"""

import threading
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.concurrency.threads import InThread, Reactor
from ollama_tw.errors import OllamaError
from ollama_tw.http.server.replies import read_body
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import ReplyStream, answer
from ollama_tw.library.names import InvalidName, Name, parse_name, stub_name
from ollama_tw.library.store import Store
from ollama_tw.registry.progress import Report
from ollama_tw.registry.pull import Pulls
from ollama_tw.registry.push import Pushes
from ollama_tw.wire.decode import decode
from ollama_tw.wire.models import TransferRequest

_SUCCESS = {"status": "success"}


class TransferRoutes:
    """``/api/pull`` and ``/api/push``."""

    def __init__(
        self,
        reactor: Reactor,
        store: Store,
        in_disk: InThread,
        pulls: Pulls,
        pushes: Pushes,
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._in_disk = in_disk
        self._pulls = pulls
        self._pushes = pushes

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("POST", "/api/pull", self.pull, Access.MANAGE)
        routes.add("POST", "/api/push", self.push, Access.MANAGE)

    async def pull(self, request: Request) -> None:
        """Pull a model, with a stream of progress records unless the body turns it off."""
        body = decode(read_body(request), TransferRequest, go_type="api.PullRequest")
        name = pulled_name(body.model or body.name)

        async def work(report: Report) -> None:
            # Another spelling of an installed model updates that one.
            resolved = await self._in_disk(self._store.resolve, name)
            await self._pulls.pull(resolved, body.insecure, report)

        await self._transfer(request, body, work)

    async def push(self, request: Request) -> None:
        """Push a model, with a stream of progress records unless the body turns it off."""
        body = decode(read_body(request), TransferRequest, go_type="api.PushRequest")
        sent = body.model or body.name
        if not sent:
            raise OllamaError(400, "model is required")
        await self._transfer(request, body, lambda report: self._pushes.push(sent, body.insecure, report))

    async def _transfer(
        self, request: Request, body: TransferRequest, work: Callable[[Report], Awaitable[None]]
    ) -> None:
        async def run(stream: ReplyStream | None, _cancel: threading.Event) -> dict[str, Any] | None:
            await work(reporter(stream))
            return _SUCCESS if stream is None else None

        await answer(self._reactor, request, body.stream is not False, run)


def reporter(stream: ReplyStream | None) -> Report:
    """Return a function that sends progress records to ``stream``, or drops them without one."""

    def report(record: dict[str, Any]) -> None:
        if stream is not None:
            stream.offer(record, (record["status"], record.get("digest")))

    return report


def pulled_name(sent: str) -> Name:
    """Return the name under which a model is pulled; a cloud model's is that of its stub.

    Raises OllamaError 400.
    """
    if not sent.strip():
        raise OllamaError(400, "invalid model name")
    try:
        return parse_name(stub_name(sent))
    except InvalidName as error:
        raise OllamaError(400, "invalid model name") from error
