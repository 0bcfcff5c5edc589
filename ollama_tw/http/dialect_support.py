"""Shared parts of the OpenAI and Anthropic routes: bodies, errors, event streams, several runs.

Source: ollama: middleware/openai.go; middleware/anthropic.go.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import zstandard
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request

from ollama_tw.concurrency.threads import Reactor
from ollama_tw.dialects.errors import ErrorFormat
from ollama_tw.dialects.sse import KEEP_ALIVE_COMMENT, data_event, named_event
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.server.errors import logged
from ollama_tw.http.server.replies import JSON, read_body, send_json_line
from ollama_tw.http.server.stream import Framing, RemainingRecords, ReplyStream, answer
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.native import ChatRecord, Emit, Record

RelayBody = Callable[[Request, bytes, ErrorFormat], Awaitable[bool]]
"""Answers a request whose body names a cloud model, and returns whether it did. Its errors before the
first byte have the native API's format, as in Ollama."""

_log = Logger()

T = TypeVar("T")
R = TypeVar("R")

Feed = Callable[[ChatRecord], list[dict[str, Any]]]
"""Translates one record of a chat to the events of a dialect."""

EMPTY_BODY = "EOF"
"""The error message for an empty body, Go's."""

_ID_BYTES = 12
_MAX_DECOMPRESSED = 20 << 20
_MAX_WINDOW = 8 << 20
_MAX_CONCURRENT_RUNS = 16
_KEEP_ALIVE = (("Cache-Control", "no-cache"), ("Connection", "keep-alive"))


def decompressed_body(request: Request) -> bytes:
    """Return the body, decompressed if it is zstd. Raises :class:`OllamaError` 400."""
    body = read_body(request)
    if request.getHeader("Content-Encoding") != "zstd":
        return body
    try:
        with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(body) as reader:
            decompressed: bytes = reader.read(_MAX_DECOMPRESSED + 1)
    except zstandard.ZstdError:
        raise OllamaError(400, "the request body is not valid zstd, or needs a window over 8 MiB") from None
    if len(decompressed) > _MAX_DECOMPRESSED:
        raise OllamaError(400, "the request body is larger than 20 MiB when it is unpacked")
    return decompressed


def query_of(request: Request) -> dict[str, str]:
    """Return the parameters in the query of ``request``, of repeated ones the first."""
    return {
        name.decode("latin-1"): values[0].decode("utf-8", "replace")
        for name, values in (request.args or {}).items()
    }


def unique_id() -> str:
    """Return the random part of the id of a reply: clients keep replies by their ids."""
    return secrets.token_hex(_ID_BYTES)


def log_ignored_tools(kinds: Sequence[str]) -> None:
    """Log the kinds of tools that a request offers and the model does not get."""
    if kinds:
        _log.info("tools of these types are left out of the prompt: {kinds}", kinds=", ".join(kinds))


@dataclass(frozen=True)
class Dialect:
    """Answers requests in the formats of one API; shared by all its routes."""

    reactor: Reactor
    errors: ErrorFormat
    relay: RelayBody | None = None
    """Forwards requests for cloud models; None where there is no cloud."""

    async def serve_or_relay(
        self, request: Request, translate: Callable[[bytes], T], run: Callable[[T], Awaitable[None]]
    ) -> None:
        """Relay ``request`` if its body names a cloud model, otherwise :meth:`serve` it."""
        body = decompressed_body(request)
        if self.relay is None or not await self.relay(request, body, self.errors):
            await self._serve(request, body, translate, run)

    async def serve(
        self, request: Request, translate: Callable[[bytes], T], run: Callable[[T], Awaitable[None]]
    ) -> None:
        """Call ``run`` with the translated body of ``request``, which answers it.

        Errors of both are sent in the dialect's format, unless the reply has begun.
        """
        await self._serve(request, decompressed_body(request), translate, run)

    async def _serve(
        self,
        request: Request,
        body: bytes,
        translate: Callable[[bytes], T],
        run: Callable[[T], Awaitable[None]],
    ) -> None:
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
            if isinstance(error, OllamaError):
                status, text = error.status, error.message
            else:
                status, text = 500, logged(request, Failure())
            content_type = "application/json" if translated else JSON
            send_json_line(request, self.errors.body(status, text), status, content_type)

    async def answer(
        self,
        request: Request,
        streaming: bool,
        work: Callable[[ReplyStream | None, RequestContext], Awaitable[R | RemainingRecords | None]],
        framing: Framing,
    ) -> None:
        """Call ``work`` and answer ``request``: see :func:`ollama_tw.http.server.stream.answer`."""
        await answer(self.reactor, request, streaming, work, framing=framing, send=send_json_line)

    async def answer_chat(
        self,
        request: Request,
        chat: Callable[[Emit | None, RequestContext], Awaitable[Record | None]],
        whole: Callable[[ChatRecord], dict[str, Any]],
        feed: Feed | None,
        framing: Framing,
    ) -> None:
        """Run a chat and answer ``request`` with its translated records.

        A stream of the events of ``feed`` is sent, or without ``feed`` the object of ``whole``.
        """

        async def work(
            stream: ReplyStream | None, cancel: RequestContext
        ) -> dict[str, Any] | RemainingRecords | None:
            if stream is None or feed is None:
                return whole(chat_record(await chat(None, cancel)))

            def emit(record: Record) -> None:
                for event in feed(chat_record(record)):
                    stream.send(event)

            last = await chat(emit, cancel)
            return None if last is None else RemainingRecords(feed(chat_record(last)))

        await self.answer(request, feed is not None, work, framing)


def chat_record(record: Record | None) -> ChatRecord:
    """Return ``record``, which came from a chat."""
    if not isinstance(record, ChatRecord):
        raise TypeError(f"a chat returned {type(record).__name__}")
    return record


async def gather(runs: Sequence[Callable[[], Coroutine[Any, Any, R]]], cancel: RequestContext) -> list[R]:
    """Run coroutines, at most 16 concurrently, and return their results in order.

    When one fails, ``cancel`` is set for the others; the first error is raised when all have ended.
    """
    failures: list[Failure] = []

    def failed(failure: Failure) -> Failure:
        failures.append(failure)
        cancel.set()
        return failure

    def start(run: Callable[[], Coroutine[Any, Any, R]]) -> Deferred[R]:
        if cancel.is_set():
            return fail(Cancelled())
        # Added here, so that ``cancel`` is set before the semaphore starts the next run.
        return Deferred.fromCoroutine(run()).addErrback(failed)

    # One request must not fill the whole queue.
    semaphore = DeferredSemaphore(_MAX_CONCURRENT_RUNS)
    started = [semaphore.run(start, run) for run in runs]
    results = await DeferredList(started, consumeErrors=True)
    if failures:
        failures[0].raiseException()
    if not all(succeeded for succeeded, _ in results):
        raise Cancelled
    return [result for _, result in results]


def data_framing(error_event: Callable[[int, str], bytes]) -> Framing:
    """Return the framing of unnamed events; ``error_event`` makes the last one of a failed stream."""
    return Framing("text/event-stream", data_event, error_event, keep_alive=KEEP_ALIVE_COMMENT)


def event_framing(error_event: Callable[[int, str], bytes]) -> Framing:
    """Return the framing of named events; ``error_event`` makes the last one of a failed stream."""
    return Framing("text/event-stream", named_event, error_event, _KEEP_ALIVE, KEEP_ALIVE_COMMENT)
