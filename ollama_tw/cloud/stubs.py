"""Stubs: requests forwarded in the native API's form, whichever API they came by, and their responses.

Records of the other server are decoded, renamed to the stub and passed on as this server's own.

Source: ollama: server/routes.go, GenerateHandler, ChatHandler (RemoteHost).
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace as changed

from ollama_tw.cloud.client import RemoteClient, RemoteResponse
from ollama_tw.cloud.policy import CloudPolicy, Operation
from ollama_tw.cloud.rewriting import error_in
from ollama_tw.concurrency.threads import InThread
from ollama_tw.errors import OllamaError
from ollama_tw.library.model import Model
from ollama_tw.wire.decode import decode
from ollama_tw.wire.decode_errors import DECODE_ERRORS
from ollama_tw.wire.native import (
    ChatRecord,
    ChatRequest,
    EmbeddingsRecord,
    EmbeddingsRequest,
    EmbedRecord,
    EmbedRequest,
    Emit,
    GenerateRecord,
    GenerateRequest,
    Message,
    Record,
)

R = TypeVar("R", bound=Record | EmbedRecord | EmbeddingsRecord)


# Bytes of a record that is decoded leniently (keys in another case, null for absent values), which takes many
# times its size.
_MAX_LENIENT = 1 << 20


@dataclass(frozen=True)
class Stub:
    """A model of the library that another server runs; ``sent`` is its name as written by the client."""

    sent: str
    model: Model

    @property
    def host(self) -> str:
        """The URL of the other server."""
        return self.model.config.remote_host

    @property
    def remote_model(self) -> str:
        """The name of the model on the other server."""
        return self.model.config.remote_model

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the stub's parameters, overridden by the options of a request."""
        return {**self.model.params, **given}

    def messages(self, given: list[Message]) -> list[Message]:
        """Return system prompt and messages of the stub, then those of a request.

        A system message at the beginning of the request replaces the stub's system prompt.
        """
        own = [Message(str(one.get("role", "")), str(one.get("content", ""))) for one in self.model.messages]
        replaced = not self.model.system or given[0].role == "system"
        return [*([] if replaced else [Message("system", self.model.system)]), *own, *given]


class Forwarding:
    """Runs stubs. ``emit`` is called by ``in_thread`` and may block.

    A slow client therefore occupies a thread, and pauses the other server.
    """

    def __init__(self, client: RemoteClient, policy: CloudPolicy, in_thread: InThread) -> None:
        self._client = client
        self._policy = policy
        self._in_thread = in_thread

    async def generate(self, stub: Stub, request: GenerateRequest, emit: Emit | None) -> Record | None:
        """Complete a prompt; see :meth:`ollama_tw.inference.service.Completions.generate`."""
        request = changed(
            request,
            options=stub.options(request.options),
            system=request.system or stub.model.system,
            template=request.template or stub.model.template or "",
        )
        return await self._complete(stub, "/api/generate", request, GenerateRecord, emit)

    async def chat(self, stub: Stub, request: ChatRequest, emit: Emit | None) -> Record | None:
        """Continue a chat; see :meth:`ollama_tw.inference.service.Completions.chat`."""
        # A chat without messages loads the model: it must stay without.
        messages = stub.messages(request.messages) if request.messages else []
        request = changed(request, options=stub.options(request.options), messages=messages)
        return await self._complete(stub, "/api/chat", request, ChatRecord, emit)

    async def embed(self, stub: Stub, request: EmbedRequest) -> EmbedRecord:
        """Embed one or more texts (``/api/embed``)."""
        request = changed(request, options=stub.options(request.options))
        reply = await self._send(stub, "/api/embed", request)
        record = await _single_record(reply, EmbedRecord)
        return changed(record, model=stub.sent, remote_model=stub.remote_model, remote_host=stub.host)

    async def embeddings(self, stub: Stub, request: EmbeddingsRequest) -> EmbeddingsRecord:
        """Embed one prompt (``/api/embeddings``)."""
        request = changed(request, options=stub.options(request.options))
        return await _single_record(await self._send(stub, "/api/embeddings", request), EmbeddingsRecord)

    async def _complete(
        self,
        stub: Stub,
        path: str,
        request: GenerateRequest | ChatRequest,
        kind: type[GenerateRecord] | type[ChatRecord],
        emit: Emit | None,
    ) -> Record | None:
        request = changed(request, stream=emit is not None, progress=None)
        reply = await self._send(stub, path, request)

        def named(record: Record) -> Record:
            return changed(record, model=stub.sent, remote_model=stub.remote_model, remote_host=stub.host)

        if emit is None or reply.content_type == "application/json":
            # Loading or unloading a model is answered by one object, even if a stream was requested.
            return named(await _single_record(reply, kind))
        try:
            done = False
            while not done and (lines := await reply.lines()):
                records, failure = _records(lines, kind)
                done = any(record.done for record in records)
                await self._in_thread(_emit_all, emit, [named(record) for record in records])
                if failure is not None:
                    raise failure
        finally:
            reply.stop()
        if not done:
            raise OllamaError(502, "the remote server ended its reply early")
        return None

    async def _send(self, stub: Stub, path: str, request: msgspec.Struct) -> RemoteResponse:
        """Send a request to the stub's server and return the response; raises OllamaError for an error."""
        self._policy.require(Operation.MODEL)
        server = self._policy.server_at(stub.host)
        members = msgspec.to_builtins(changed(request, model=stub.remote_model))
        body = msgspec.json.encode({key: value for key, value in members.items() if value is not None})
        reply = await self._client.send(server, "POST", path, body)
        if reply.status >= 400:
            raise await reply.error()
        return reply


def _emit_all(emit: Emit, records: Sequence[Any]) -> None:
    for record in records:
        emit(record)


def _records(lines: Sequence[bytes], kind: type[R]) -> tuple[list[R], OllamaError | None]:
    """Decode the records up to the first invalid one, and return its error."""
    records: list[R] = []
    for line in filter(bytes.strip, lines):
        try:
            records.append(_record(line, kind))
        except OllamaError as error:
            return records, error
    return records, None


async def _single_record(reply: RemoteResponse, kind: type[R]) -> R:
    return _record(await reply.whole(), kind)


def _record(line: bytes, kind: type[R]) -> R:
    """Decode a record. Raises OllamaError 502 if it is invalid or an error record."""
    failed = error_in(line)
    if failed is not None:
        raise OllamaError(502, failed)
    with suppress(*DECODE_ERRORS):
        return msgspec.json.decode(line, type=kind)
    try:
        if len(line) > _MAX_LENIENT:
            raise OllamaError(502, "too long")
        return decode(line, kind, go_type="a reply")
    except OllamaError as error:
        raise OllamaError(502, "the remote server sent an invalid record") from error
