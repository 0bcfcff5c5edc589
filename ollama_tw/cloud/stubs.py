"""Requests for stubs, the models whose weights lie on another server: forwarded in the native API's
form, whatever door they came by, and what comes back made to look like a reply of this server.

Source: ``spec/models-and-cli.md`` section 5.9; ``spec/inference-api.md`` section 0.3.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace as changed
from twisted.internet.defer import Deferred

from ollama_tw.cloud.client import Answer, Cloud
from ollama_tw.cloud.policy import CloudPolicy, Operation
from ollama_tw.cloud.rewriting import error_in
from ollama_tw.errors import OllamaError
from ollama_tw.library.model import Model
from ollama_tw.wire.decode import decode
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


# Bytes of a record that may have its keys in other case, or null for what is absent: reading it so takes
# many times its size.
_MAX_LENIENT = 1 << 20


@dataclass(frozen=True)
class Stub:
    """A model that another server runs; ``sent`` is its name as the client wrote it."""

    sent: str
    model: Model

    @property
    def host(self) -> str:
        """The server's URL."""
        return self.model.config.remote_host

    @property
    def remote_model(self) -> str:
        """Its name over there."""
        return self.model.config.remote_model

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Those of a request, over the stub's own parameters."""
        return {**self.model.params, **given}

    def messages(self, given: list[Message]) -> list[Message]:
        """Those of a request after the stub's own, behind its system prompt unless they begin with one."""
        own = [Message(str(one.get("role", "")), str(one.get("content", ""))) for one in self.model.messages]
        replaced = not self.model.system or given[0].role == "system"
        return [*([] if replaced else [Message("system", self.model.system)]), *own, *given]


class Forwarding:
    """Runs stubs. ``in_thread`` calls a function with its arguments on a thread: there ``emit`` is called,
    which may block. A client that reads slowly holds a thread, and the server that answers it."""

    def __init__(self, cloud: Cloud, policy: CloudPolicy, in_thread: Callable[..., Deferred[Any]]) -> None:
        self._cloud = cloud
        self._policy = policy
        self._in_thread = in_thread

    async def generate(self, stub: Stub, request: GenerateRequest, emit: Emit | None) -> Record | None:
        """As :meth:`ollama_tw.inference.service.Completions.generate`."""
        request = changed(
            request,
            options=stub.options(request.options),
            system=request.system or stub.model.system,
            template=request.template or stub.model.template or "",
        )
        return await self._complete(stub, "/api/generate", request, GenerateRecord, emit)

    async def chat(self, stub: Stub, request: ChatRequest, emit: Emit | None) -> Record | None:
        """As :meth:`ollama_tw.inference.service.Completions.chat`."""
        # A chat without messages loads the model, and must not become one with some.
        messages = stub.messages(request.messages) if request.messages else []
        request = changed(request, options=stub.options(request.options), messages=messages)
        return await self._complete(stub, "/api/chat", request, ChatRecord, emit)

    async def embed(self, stub: Stub, request: EmbedRequest) -> EmbedRecord:
        """``/api/embed``."""
        request = changed(request, options=stub.options(request.options))
        answer = await self._ask(stub, "/api/embed", request)
        record = await _only(answer, EmbedRecord)
        return changed(record, model=stub.sent, remote_model=stub.remote_model, remote_host=stub.host)

    async def embeddings(self, stub: Stub, request: EmbeddingsRequest) -> EmbeddingsRecord:
        """``/api/embeddings``."""
        request = changed(request, options=stub.options(request.options))
        return await _only(await self._ask(stub, "/api/embeddings", request), EmbeddingsRecord)

    async def _complete(
        self,
        stub: Stub,
        path: str,
        request: GenerateRequest | ChatRequest,
        kind: type[GenerateRecord] | type[ChatRecord],
        emit: Emit | None,
    ) -> Record | None:
        request = changed(request, stream=emit is not None)
        answer = await self._ask(stub, path, request)

        def named(record: Record) -> Record:
            return changed(record, model=stub.sent, remote_model=stub.remote_model, remote_host=stub.host)

        if emit is None or answer.content_type == "application/json":
            # What loads or unloads a model is one object, also where a stream was asked for.
            return named(await _only(answer, kind))
        try:
            done = False
            while not done and (lines := await answer.lines()):
                records, failure = _records(lines, kind)
                done = any(record.done for record in records)
                await self._in_thread(_emit_all, emit, [named(record) for record in records])
                if failure is not None:
                    raise failure
        finally:
            answer.stop()
        if not done:
            raise OllamaError(502, "the remote server broke its reply off")
        return None

    async def _ask(self, stub: Stub, path: str, request: msgspec.Struct) -> Answer:
        """The answer of the stub's server, which is one of success."""
        self._policy.require(Operation.MODEL)
        target = self._policy.target(stub.host)
        members = msgspec.to_builtins(changed(request, model=stub.remote_model))
        body = msgspec.json.encode({key: value for key, value in members.items() if value is not None})
        answer = await self._cloud.ask(target, "POST", path, body)
        if answer.status >= 400:
            raise await answer.refused()
        return answer


def _emit_all(emit: Emit, records: Sequence[Any]) -> None:
    for record in records:
        emit(record)


def _records(lines: Sequence[bytes], kind: type[R]) -> tuple[list[R], OllamaError | None]:
    """The records up to the first that is none, and what is wrong with that one."""
    records: list[R] = []
    for line in filter(bytes.strip, lines):
        try:
            records.append(_record(line, kind))
        except OllamaError as error:
            return records, error
    return records, None


async def _only(answer: Answer, kind: type[R]) -> R:
    return _record(await answer.whole(), kind)


def _record(line: bytes, kind: type[R]) -> R:
    """A record of another server. Raises OllamaError where it is none, or says that something failed."""
    failed = error_in(line)
    if failed is not None:
        raise OllamaError(502, failed)
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(line, type=kind)
    try:
        if len(line) > _MAX_LENIENT:
            raise OllamaError(502, "too long")
        return decode(line, kind, go_type="a reply")
    except OllamaError as error:
        raise OllamaError(502, "the remote server sent something that is not a record of a reply") from error
