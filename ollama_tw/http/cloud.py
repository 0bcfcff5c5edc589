"""Relay requests for cloud models, and the routes of the cloud's other services.

A request whose model is a cloud reference is forwarded to the cloud, and the answer relayed, in the API
of the request. Stubs are models of the library instead: see ``cloud/stubs.py``.

Source: ollama: server/cloud_proxy.go; server/routes.go.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import threading
from collections.abc import Iterable
from itertools import takewhile
from urllib.parse import quote

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.cloud.client import RemoteClient, RemoteResponse
from ollama_tw.cloud.policy import CloudPolicy, Operation, cloud_name
from ollama_tw.cloud.recommendations import Recommendations
from ollama_tw.cloud.rewriting import compact_object, forwarded_headers, model_of, with_model
from ollama_tw.concurrency.threads import Reactor
from ollama_tw.configfile.document import LiveDocument
from ollama_tw.dialects.errors import NATIVE_ERRORS, ErrorFormat
from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.http.server.replies import JSON, read_body, send_bytes, send_json
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import NDJSON, Framing, ReplyStream, answer_stream

_NDJSON = "application/x-ndjson"
_EVENTS = "text/event-stream"


class CloudRelay:
    """Relays requests for cloud models; called by the routes before they look for a local model.

    The methods return False for other models. They raise OllamaError.
    """

    def __init__(
        self,
        reactor: Reactor,
        client: RemoteClient,
        policy: CloudPolicy,
        configured: LiveDocument | None = None,
    ) -> None:
        self._configured = configured or LiveDocument()
        self._reactor = reactor
        self._client = client
        self._policy = policy

    async def relay(self, request: Request, model: str, operation: Operation = Operation.MODEL) -> bool:
        """Answer a native request for ``model``, read from its body, if that is a cloud reference."""
        return await self._relay_body(request, read_body(request), model, operation, NATIVE_ERRORS)

    async def relay_body(self, request: Request, body: bytes, errors: ErrorFormat) -> bool:
        """Answer a request with the decompressed ``body`` if that names a cloud reference.

        An error after the beginning of a stream is sent in the format ``errors``.
        """
        return await self._relay_body(request, body, model_of(body), Operation.MODEL, errors)

    async def relay_name(self, request: Request, model: str, prefix: str, errors: ErrorFormat) -> bool:
        """Answer a request with ``model`` after ``prefix`` in its path, if that is a cloud reference."""
        name = cloud_name(self._configured.resolve_alias(model))
        if name is None:
            return False
        self._policy.require(Operation.DETAILS)
        await self.forward(request, prefix + quote(name), None, errors)
        return True

    async def _relay_body(
        self, request: Request, body: bytes, model: str, operation: Operation, errors: ErrorFormat
    ) -> bool:
        name = cloud_name(self._configured.resolve_alias(model))
        if name is None:
            return False
        self._policy.require(operation)
        await self.forward(request, request.path.decode(), with_model(body, name), errors)
        return True

    async def forward(
        self, request: Request, path: str, body: bytes | None, errors: ErrorFormat = NATIVE_ERRORS
    ) -> None:
        """Send ``request`` to the cloud with the client's headers, and relay the answer."""
        raw = request.requestHeaders.getAllRawHeaders()
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, of in raw for value in of]
        reply = await self._client.send(
            self._policy.cloud,
            "GET" if body is None else "POST",
            path,
            body,
            query=request.uri.partition(b"?")[2].decode("latin-1"),
            headers=forwarded_headers(headers),
        )
        try:
            await self._relay_reply(request, reply, errors)
        finally:
            reply.stop()

    async def _relay_reply(self, request: Request, reply: RemoteResponse, errors: ErrorFormat) -> None:
        if reply.status >= 400:
            if (wait := reply.header("Retry-After")).isdecimal():
                request.setHeader("Retry-After", wait)
            send_bytes(request, await reply.error_object(), reply.status, JSON)
        elif reply.content_type in (_NDJSON, _EVENTS):
            is_ndjson = reply.content_type == _NDJSON
            framing = NDJSON if is_ndjson else _event_lines(errors)

            async def work(stream: ReplyStream, _: threading.Event) -> None:
                while lines := await reply.lines():
                    if is_ndjson:
                        await _put_records(stream, lines)
                    else:
                        await stream.put(_joined(lines))

            await answer_stream(self._reactor, request, work, framing=framing)
        else:
            found = compact_object(await reply.whole())
            if found is None:
                raise OllamaError(502, "the remote server did not return a JSON object")
            send_bytes(request, found, reply.status, JSON)


async def _put_records(stream: ReplyStream, lines: list[bytes]) -> None:
    """Send ``lines`` up to the first that is not an object, which WebSocket clients could not be sent."""
    records = [compact_object(line) for line in lines if line.strip()]
    whole = list(takewhile(lambda record: record is not None, records))
    if whole:
        await stream.put(_joined(filter(None, whole)))
    if len(whole) < len(records):
        raise OllamaError(502, "the remote server sent an invalid record")


def _joined(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _event_lines(errors: ErrorFormat) -> Framing:
    """Return the framing of a relayed event stream, whose lines need no encoding."""

    def error(status: int, text: str) -> bytes:
        # The blank line ends the event in which the answer was cut off.
        return b"\n" + errors.event(status, text)

    return Framing(_EVENTS, gojson.encode, error, (("Cache-Control", "no-cache"),))


class CloudRoutes:
    """Routes of the cloud's services besides running models, and of the recommended models."""

    def __init__(self, relay: CloudRelay, policy: CloudPolicy, recommendations: Recommendations) -> None:
        self._relay = relay
        self._policy = policy
        self._recommendations = recommendations

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("POST", "/api/experimental/web_search", self.search, Access.RUN)
        routes.add("POST", "/api/experimental/web_fetch", self.fetch, Access.RUN)
        routes.add("GET", "/api/experimental/model-recommendations", self.recommend, Access.READ)

    async def search(self, request: Request) -> None:
        """Search the web."""
        await self._forward(request, "/api/web_search", Operation.WEB_SEARCH)

    async def fetch(self, request: Request) -> None:
        """Fetch a web page."""
        await self._forward(request, "/api/web_fetch", Operation.WEB_FETCH)

    async def _forward(self, request: Request, path: str, operation: Operation) -> None:
        body = read_body(request)
        if not body.strip():
            raise OllamaError(400, "missing request body")
        self._policy.require(operation)
        await self._relay.forward(request, path, body)

    def recommend(self, request: Request) -> None:
        """List the recommended models."""
        send_json(request, {"recommendations": self._recommendations.read()})
