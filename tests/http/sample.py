"""A small API whose handlers reply, fail and wait as real ones do."""

from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred

from ollama_tw.access.requirement import Access
from ollama_tw.config.parsers import LOCAL_ORIGINS
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.native.version import VersionRoutes
from ollama_tw.http.server.guard import Guard, HostPolicy, OriginPolicy
from ollama_tw.http.server.replies import read_body, send_empty, send_json
from ollama_tw.http.server.routing import Routes
from ollama_tw.wire.decode import decode


class Body(msgspec.Struct):
    model: str = ""


class Sample:
    """Routes with one handler for each behaviour."""

    def __init__(self) -> None:
        self.held: list[Deferred[None]] = []
        self.cancelled = 0

    def register(self, routes: Routes) -> None:
        routes.add("POST", "/api/echo", self.echo, Access.RUN)
        routes.add("GET", "/api/ps", self.ps, Access.RUN)
        routes.add("HEAD GET", "/api/odd", self.ps, Access.RUN)
        routes.add("POST DELETE", "/api/odd", self.ps, Access.RUN)
        routes.add("GET", "/api/known", self.known, Access.RUN)
        routes.add("GET", "/api/broken", self.broken, Access.RUN)
        routes.add("GET", "/api/midway", self.midway, Access.RUN)
        routes.add("GET", "/api/hold", self.hold, Access.RUN)
        routes.add("GET", "/api/show/<name>", self.show, Access.RUN)
        routes.add("GET", "/api/takeover", self.take_over, Access.RUN)
        routes.add("GET", "/api/cancel", self.cancel, Access.RUN)

    async def echo(self, request: Any) -> None:
        send_json(request, {"model": decode(read_body(request), Body, go_type="api.Body").model})

    def ps(self, request: Any) -> None:
        send_empty(request)

    def show(self, request: Any, name: str) -> None:
        send_json(request, {"name": name})

    def known(self, request: Any) -> None:
        raise OllamaError(503, "server busy <now>")

    async def broken(self, request: Any) -> None:
        raise KeyError("/secret/path")

    def midway(self, request: Any) -> None:
        request.write(b"half")
        raise KeyError("/secret/path")

    def take_over(self, request: Any) -> Deferred[None]:
        request.detach()
        request.channel.transport.write(b"another protocol")
        return Deferred()

    def cancel(self, request: Any) -> None:
        raise Cancelled

    async def hold(self, request: Any) -> None:
        held: Deferred[None] = Deferred()
        self.held.append(held)
        try:
            await held
        except CancelledError:
            self.cancelled += 1
            raise Cancelled from None
        send_json(request, {"held": True})


def build(origins: tuple[str, ...] = ()) -> tuple[Routes, Sample, Guard]:
    routes, sample = Routes(), Sample()
    VersionRoutes("0.5.0").register(routes)
    sample.register(routes)
    return routes, sample, Guard(OriginPolicy([*LOCAL_ORIGINS, *origins]), HostPolicy("127.0.0.1", [], "box"))


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", "")).encode()
