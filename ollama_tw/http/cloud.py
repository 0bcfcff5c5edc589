"""Cloud references at the doors: the request goes to the cloud as it came, the answer comes back as it is.

Stubs are no subject here: they are models of the library (``cloud/stubs.py``).

Source: ``spec/models-and-cli.md`` sections 1.4, 5.8 and 5.9; ``spec/inference-api.md`` section 6.0.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import secrets
import threading
from collections.abc import Iterable
from itertools import takewhile
from urllib.parse import quote

from twisted.internet.interfaces import IReactorFromThreads
from twisted.web.http import Request

from ollama_tw.cloud.client import Answer, Cloud
from ollama_tw.cloud.policy import CloudPolicy, Operation, cloud_name
from ollama_tw.cloud.recommendations import Recommendations
from ollama_tw.cloud.rewriting import compact_object, forwarded_headers, model_of, with_model
from ollama_tw.dialects.anthropic.errors import error_object as anthropic_error
from ollama_tw.dialects.openai.errors import error_object as openai_error
from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.http.server.replies import send_bytes, send_json
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import NDJSON, Framing, ReplyStream, answer_through

_NDJSON = "application/x-ndjson"
_EVENTS = "text/event-stream"


class CloudRelay:
    """What the routes ask about each request for a model, before they look for it here."""

    def __init__(self, reactor: IReactorFromThreads, cloud: Cloud, policy: CloudPolicy) -> None:
        self._reactor = reactor
        self._cloud = cloud
        self._policy = policy

    async def takes(self, request: Request, model: str, operation: Operation = Operation.MODEL) -> bool:
        """Whether ``request``, in whose body ``model`` was read, is for one of the cloud: it is then
        answered. Raises OllamaError."""
        if cloud_name(model) is None:
            return False
        assert request.content is not None
        request.content.seek(0)
        return await self.takes_body(request, request.content.read(), model, operation)

    async def takes_body(
        self,
        request: Request,
        body: bytes,
        model: str | None = None,
        operation: Operation = Operation.MODEL,
    ) -> bool:
        """As :meth:`takes`, for a ``body`` that was unpacked, and in which no model was looked for yet."""
        name = cloud_name(model_of(body) if model is None else model)
        if name is None:
            return False
        self._policy.require(operation)
        await self.forward(request, request.path.decode(), with_model(body, name))
        return True

    async def takes_name(self, request: Request, model: str, prefix: str) -> bool:
        """As :meth:`takes`, for a ``model`` that follows ``prefix`` in the path."""
        name = cloud_name(model)
        if name is None:
            return False
        self._policy.require(Operation.DETAILS)
        await self.forward(request, prefix + quote(name), None)
        return True

    async def forward(self, request: Request, path: str, body: bytes | None) -> None:
        """Ask the cloud with the client's method and headers, and relay the answer."""
        raw = request.requestHeaders.getAllRawHeaders()
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, of in raw for value in of]
        answer = await self._cloud.ask(
            self._policy.cloud,
            "GET" if body is None else "POST",
            path,
            body,
            query=request.uri.partition(b"?")[2].decode("latin-1"),
            headers=forwarded_headers(headers),
        )
        try:
            await self._relay(request, answer)
        finally:
            answer.stop()

    async def _relay(self, request: Request, answer: Answer) -> None:
        if answer.status >= 400:
            if (wait := answer.header("Retry-After")).isdecimal():
                request.setHeader("Retry-After", wait)
            send_bytes(request, await answer.refusal(), answer.status, "application/json")
        elif answer.content_type in (_NDJSON, _EVENTS):
            framing = _framing(answer.content_type, request.path.decode())

            async def work(stream: ReplyStream | None, _: threading.Event) -> None:
                assert stream is not None
                while lines := await answer.lines():
                    if answer.content_type == _NDJSON:
                        await _put_records(stream, lines)
                    else:
                        await stream.put(_joined(lines))

            await answer_through(self._reactor, request, True, work, framing=framing)
        else:
            reply = compact_object(await answer.whole())
            if reply is None:
                raise OllamaError(502, "the remote server did not answer with a JSON object")
            send_bytes(request, reply, answer.status, "application/json; charset=utf-8")


async def _put_records(stream: ReplyStream, lines: list[bytes]) -> None:
    """Send ``lines`` up to the first that is no object: a client of WebSocket can be sent no other."""
    records = [compact_object(line) for line in lines if line.strip()]
    whole = list(takewhile(lambda record: record is not None, records))
    if whole:
        await stream.put(_joined(filter(None, whole)))
    if len(whole) < len(records):
        raise OllamaError(502, "the remote server sent something that is not a record of a reply")


def _joined(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _framing(content_type: str, path: str) -> Framing:
    if content_type == _NDJSON:
        return NDJSON

    def error(status: int, text: str) -> bytes:
        # The blank line ends the event in which the answer broke off.
        if path.startswith("/v1/messages"):
            event = anthropic_error(status, text, f"req_{secrets.token_hex(12)}")
            return b"\nevent: error\ndata: " + gojson.encode(event) + b"\n\n"
        return b"\ndata: " + gojson.encode(openai_error(status, text)) + b"\n\n"

    return Framing(_EVENTS, gojson.encode, error, (("Cache-Control", "no-cache"),))


class CloudRoutes:
    """What the cloud does besides running models, and the models that are worth a try."""

    def __init__(self, door: CloudRelay, policy: CloudPolicy, recommendations: Recommendations) -> None:
        self._door = door
        self._policy = policy
        self._recommendations = recommendations

    def register(self, routes: Routes) -> None:
        routes.add("POST", "/api/experimental/web_search", self.search)
        routes.add("POST", "/api/experimental/web_fetch", self.fetch)
        routes.add("GET", "/api/experimental/model-recommendations", self.recommend)

    async def search(self, request: Request) -> None:
        await self._forward(request, "/api/web_search", Operation.WEB_SEARCH)

    async def fetch(self, request: Request) -> None:
        await self._forward(request, "/api/web_fetch", Operation.WEB_FETCH)

    async def _forward(self, request: Request, path: str, operation: Operation) -> None:
        assert request.content is not None
        body = request.content.read()
        if not body.strip():
            raise OllamaError(400, "missing request body")
        self._policy.require(operation)
        await self._door.forward(request, path, body)

    def recommend(self, request: Request) -> None:
        send_json(request, {"recommendations": self._recommendations.read()})
