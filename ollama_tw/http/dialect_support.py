"""What the doors of the foreign APIs share: bodies, errors, event streams, several runs for one reply.

Source: ``spec/inference-api.md`` sections 6.0 and 7.1; ``spec/better.md`` row 7.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import zstandard
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore, fail
from twisted.python.failure import Failure
from twisted.web.http import Request

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.http.server.errors import logged
from ollama_tw.http.server.replies import send_foreign
from ollama_tw.http.server.stream import Framing

Takes = Callable[[Request, bytes], Awaitable[bool]]
"""Answers a request with this body where it is for a model of the cloud; whether it did. Its errors go out
in the native shape."""

T = TypeVar("T")
R = TypeVar("R")

ErrorBody = Callable[[int, str], dict[str, Any]]

DONE = b"[DONE]"
"""The last record of an OpenAI stream."""

_MOST_UNPACKED = 20 << 20
_MOST_WINDOW = 8 << 20
_AT_ONCE = 16
_KEPT_ALIVE = (("Cache-Control", "no-cache"), ("Connection", "keep-alive"))


def body_of(request: Request) -> bytes:
    """The request's body, unpacked. Raises :class:`OllamaError` 400, which goes out in the native shape."""
    assert request.content is not None
    body: bytes = request.content.read()
    if request.getHeader("Content-Encoding") != "zstd":
        return body
    try:
        with zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW).stream_reader(body) as reader:
            unpacked: bytes = reader.read(_MOST_UNPACKED + 1)
    except zstandard.ZstdError:
        raise OllamaError(400, "the request body is not valid zstd, or needs a window over 8 MiB") from None
    if len(unpacked) > _MOST_UNPACKED:
        raise OllamaError(400, "the request body is larger than 20 MiB when it is unpacked")
    return unpacked


async def serve(
    request: Request,
    error_body: ErrorBody,
    translate: Callable[[bytes], T],
    run: Callable[[T], Awaitable[None]],
    takes: Takes | None = None,
) -> None:
    """Answer ``request`` by ``run`` of what its body translates to, errors in a dialect's own shape;
    unless another ``takes`` it."""
    body = body_of(request)
    if takes is not None and await takes(request, body):
        return
    translated = False
    try:
        call = translate(body)
        translated = True
        await run(call)
    except (Cancelled, CancelledError):
        raise
    except Exception as error:
        if request.startedWriting or getattr(request, "channel", None) is None:
            raise
        status, text = 500, ""
        if isinstance(error, OllamaError):
            status, text = error.status, error.message
        else:
            text = logged(request, Failure())
        content_type = "application/json" if translated else "application/json; charset=utf-8"
        send_foreign(request, error_body(status, text), status, content_type)


async def together(runs: Sequence[Callable[[], Coroutine[Any, Any, R]]], cancel: threading.Event) -> list[R]:
    """The results of ``runs``, of which a few go on at once. When one fails the others are cancelled,
    and its error is raised when all have ended."""
    failures: list[Failure] = []

    def failed(failure: Failure) -> Failure:
        failures.append(failure)
        cancel.set()
        return failure

    def start(run: Callable[[], Coroutine[Any, Any, R]]) -> Deferred[R]:
        if cancel.is_set():
            return fail(Cancelled())
        # Before the turn is given up: the next one is to see it.
        return Deferred.fromCoroutine(run()).addErrback(failed)

    # One request must not fill the whole queue.
    turns = DeferredSemaphore(_AT_ONCE)
    started = [turns.run(start, run) for run in runs]
    results = await DeferredList(started, consumeErrors=True)
    if failures:
        failures[0].raiseException()
    if not all(succeeded for succeeded, _ in results):
        raise Cancelled
    return [result for _, result in results]


def _data(record: Any) -> bytes:
    data: bytes = record if isinstance(record, bytes) else gojson.encode(record)
    return b"data: " + data + b"\n\n"


def _event(record: dict[str, Any]) -> bytes:
    name: str = record["type"]
    return b"event: " + name.encode() + b"\n" + _data(record)


def data_stream(error_body: ErrorBody) -> Framing:
    """Server-sent events without names."""
    return Framing("text/event-stream", _data, lambda status, text: _data(error_body(status, text)))


def event_stream(error: Callable[[int, str], dict[str, Any]]) -> Framing:
    """Server-sent events, each named as the ``type`` of its object; ``error`` makes the last one of a
    stream that fails."""
    return Framing("text/event-stream", _event, lambda status, text: _event(error(status, text)), _KEPT_ALIVE)
