"""Generate and chat: checks the request, leases the model and runs a completion on it.

The checks and their order are Ollama's. Source: ollama: server/routes.go, GenerateHandler, ChatHandler.
"""

import time
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial

from msgspec import UNSET

from ollama_tw.cloud.stubs import Forwarding, Stub
from ollama_tw.config.settings import Settings
from ollama_tw.engine.retry import run_again_after_death
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.errors import OllamaError
from ollama_tw.inference.catalogue import Catalogue, Entry
from ollama_tw.inference.completion import PLAIN, CompletionTask, complete
from ollama_tw.inference.planning import checked_keep_alive, drafts, model_requirements, sampling
from ollama_tw.inference.prompting import (
    PromptBuilder,
    chat_prompt,
    generate_prompt,
    token_prompt,
)
from ollama_tw.inference.records import ChatWriter, GenerateWriter, RecordWriter
from ollama_tw.metrics import Metrics
from ollama_tw.output.tool_choice import ToolChoice, with_layout
from ollama_tw.prompt.think import Think, parse_think, resolve_think
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.dialect_extras import NO_EXTRAS, RequestExtras
from ollama_tw.wire.native import ChatRequest, Emit, GenerateRequest, Note, Record, RunRequest, ignore
from ollama_tw.wire.options import Options, resolve

_MAX_TOP_LOGPROBS = 20

_MAX_CONTEXTS = 10

# Families whose K/V cache does not support a context shift, as Ollama has them.
_NO_SHIFT_FAMILIES = frozenset({"deepseek2"})


@dataclass(frozen=True)
class _Admitted:
    """The resolved parts of a request that passed all checks."""

    entry: Entry
    options: Options
    think: Think
    keep_alive: int | None
    started: int
    shift: bool


class Completions:
    """Runs generate and chat requests.

    Both methods call ``emit`` on a worker thread with each record of a stream and return None. If
    ``emit`` is None, or there is one record only, they return it. Setting ``cancel``, or cancelling the
    Deferred, ends the run. They raise :class:`OllamaError`. ``extras`` are options that only the OpenAI
    and Anthropic dialects can set; they are not forwarded to other servers. ``note`` is called before the
    first record, with what the output may violate of the request's schemas.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        scheduler: Scheduler,
        settings: Settings,
        forwarding: Forwarding,
        metrics: Metrics | None = None,
    ) -> None:
        self._forwarding = forwarding
        self._catalogue = catalogue
        self._scheduler = scheduler
        self.settings = settings
        self._metrics = metrics

    async def generate(
        self,
        request: GenerateRequest,
        emit: Emit | None,
        cancel: RequestContext,
        extras: RequestExtras = NO_EXTRAS,
        note: Note = ignore,
    ) -> Record | None:
        """Run a request of ``/api/generate``."""
        started = time.monotonic_ns()
        keep_alive, think = _check(request)
        entry = await self._catalogue.find_or_stub(request.model)
        if isinstance(entry, Stub):
            if extras.prompt_tokens:
                raise OllamaError(400, "token prompts are not supported for remote models")
            return await self._forwarding.generate(entry, request, emit)
        writer = GenerateWriter(request.model)
        if not request.prompt and keep_alive == 0:
            return self._unload(entry, writer)
        if "image" in entry.capabilities:
            raise OllamaError(400, "image generation models are not currently supported")
        if request.raw and (request.template or request.system or request.context):
            raise OllamaError(400, "raw mode does not support template, system, or context")
        think = _settled(think, entry, request)
        entry.require("completion", "generate")
        infill = None
        if request.suffix and "insert" not in entry.capabilities:
            infill = await self._catalogue.infill_tokens(entry)
            if infill is None:
                raise OllamaError(400, f"{entry.model.name.full} does not support insert")
        admitted = _admitted(request, entry, think, keep_alive, started)
        build: PromptBuilder | None = None
        if extras.prompt_tokens:
            build = token_prompt(extras.prompt_tokens)
        elif request.prompt:
            build = generate_prompt(
                entry,
                request,
                admitted.options,
                admitted.think,
                admitted.shift,
                infill,
                special_in_text=self.settings.special_tokens,
            )
        return await self._run(request, admitted, writer, build, emit, cancel, extras, note)

    async def chat(
        self,
        request: ChatRequest,
        emit: Emit | None,
        cancel: RequestContext,
        extras: RequestExtras = NO_EXTRAS,
        note: Note = ignore,
    ) -> Record | None:
        """Run a request of ``/api/chat``."""
        started = time.monotonic_ns()
        keep_alive, think = _check(request)
        if not request.model.strip():
            raise OllamaError(400, "model is required")
        entry = await self._catalogue.find_or_stub(request.model)
        writer = ChatWriter(request.model, extras.shows_stop)
        if not request.messages and keep_alive == 0:
            return self._unload(entry, writer)
        if isinstance(entry, Stub):
            return await self._forwarding.chat(entry, request, emit)
        if extras.drops_thinking and "thinking" not in entry.capabilities:
            think = Think()
        think = _settled(think, entry, request)
        entry.require("completion", "chat")
        # A call that is required is restricted to the tools by the grammar, whatever the template.
        if request.tools and not extras.must_call and "tools" not in entry.capabilities:
            raise OllamaError(400, f"{entry.model.name.full} does not support tools")
        admitted = _admitted(request, entry, think, keep_alive, started)
        build = chat_prompt(
            entry,
            request,
            admitted.options,
            admitted.think,
            admitted.shift,
            special_in_text=self.settings.special_tokens,
        )
        builder = build if request.messages else None
        return await self._run(request, admitted, writer, builder, emit, cancel, extras, note)

    def _unload(self, entry: Entry | Stub, writer: RecordWriter) -> Record:
        if isinstance(entry, Entry):
            self._scheduler.unload(str(entry.model.model_path))
        return writer.bare("unload")

    async def _run(
        self,
        request: RunRequest,
        admitted: _Admitted,
        writer: RecordWriter,
        build_prompt: PromptBuilder | None,
        emit: Emit | None,
        cancel: RequestContext,
        extras: RequestExtras,
        note: Note,
    ) -> Record | None:
        """Lease the model and run the prompt, if there is one, on one of the model's threads."""
        sent = False

        def send(record: Record) -> None:
            nonlocal sent
            sent = True
            if emit is not None:
                emit(record)

        sink = None if emit is None else send

        def attempt() -> Awaitable[Record | None]:
            return self._attempt(request, admitted, writer, build_prompt, sink, cancel, extras, note)

        return await run_again_after_death(attempt, lambda: not sent)

    async def _attempt(
        self,
        request: RunRequest,
        admitted: _Admitted,
        writer: RecordWriter,
        build_prompt: PromptBuilder | None,
        emit: Emit | None,
        cancel: RequestContext,
        extras: RequestExtras,
        note: Note,
    ) -> Record | None:
        entry, options = admitted.entry, admitted.options
        requirements = model_requirements(entry, options, self.settings, admitted.keep_alive)
        async with self._scheduler.lease(requirements, cancel, runs=build_prompt is not None) as lease:
            if build_prompt is None:
                return writer.bare("load")
            raw = bool(extras.prompt_tokens) or (isinstance(request, GenerateRequest) and request.raw)
            choice = ToolChoice(extras.must_call, extras.parallel_calls)
            task = CompletionTask(
                writer=writer,
                build_prompt=build_prompt,
                sampling=sampling(options),
                stop=options.stop,
                limit=_limit(entry, options, raw),
                started=admitted.started,
                load_duration=time.monotonic_ns() - admitted.started - lease.slot_wait,
                description=PLAIN if raw else with_layout(entry.description, choice),
                thinks=admitted.think.enabled is True,
                tools=request.tools if isinstance(request, ChatRequest) else (),
                choice=choice,
                build_grammar=partial(_grammar, request, options, note, strict=extras.strict_format),
                note=note,
                think_budget=admitted.think.budget,
                logprobs=request.top_logprobs if request.logprobs else None,
                shift=admitted.shift,
                keep=max(options.num_keep, 0),
                with_context=isinstance(request, GenerateRequest) and not raw,
                # Ollama does not detect repetition where the engine renders the chat.
                ends_repetition=isinstance(request, GenerateRequest) or entry.template is not None,
                debug_only=request.debug_render_only,
                logit_bias=extras.logit_bias,
                partition=cancel.partition,
                drafts=drafts(options),
                preserved=extras.preserved,
                streams_calls=extras.streams_calls and emit is not None,
            )
            work = partial(
                complete, task, emit=emit, cancel=cancel, metrics=self._metrics, progress=lease.progress
            )
            return await lease.run(work, cancel)


def _check(request: RunRequest) -> tuple[int | None, Think]:
    """Do the checks that need no model; return keep_alive in nanoseconds, and think."""
    keep_alive = checked_keep_alive(request.keep_alive)
    think = parse_think(request.think)
    if not 0 <= request.top_logprobs <= _MAX_TOP_LOGPROBS:
        raise OllamaError(400, f"top_logprobs must be between 0 and {_MAX_TOP_LOGPROBS}")
    return keep_alive, think


def _settled(think: Think, entry: Entry, request: RunRequest) -> Think:
    return resolve_think(
        think,
        model=request.model,
        capable="thinking" in entry.capabilities,
        harmony=entry.rendering.harmony,
    )


def _admitted(
    request: RunRequest, entry: Entry, think: Think, keep_alive: int | None, started: int
) -> _Admitted:
    shift = request.shift
    if shift is None:
        shift = entry.model.config.model_family not in _NO_SHIFT_FAMILIES
    options = resolve(entry.params, request.options)
    return _Admitted(entry, options, think.limited(options.think_budget), keep_alive, started, shift)


def _limit(entry: Entry, options: Options, raw: bool) -> int:
    """Return the maximum number of tokens: ``num_predict``, with 0 as no limit for a Go template.

    A request with a context of its own gets at most ten times its length, as the runner does with the
    context of the loaded model, which may be longer. Source: ollama: llm/server.go, Completion.
    """
    limit = options.num_predict
    if limit == 0 and (raw or entry.template is not None):
        limit = -1
    if not options.num_ctx:
        return limit
    most = _MAX_CONTEXTS * options.num_ctx
    return most if limit < 0 else min(limit, most)


def _grammar(request: RunRequest, options: Options, note: Note, *, strict: bool) -> str:
    """Return the grammar of ``format`` or the one among the options; "" for unconstrained output."""
    if request.format is UNSET and "grammar" not in options.given:
        return ""
    # Most requests have no grammar: its compiler is imported by the first that does.
    from ollama_tw.grammar import grammar_for, limit_grammar

    from_format = None if request.format is UNSET else grammar_for(request.format, strict=strict, note=note)
    if "grammar" not in options.given:
        return from_format or ""
    if from_format:
        raise OllamaError(400, 'give either "format" or the option "grammar", not both')
    limit_grammar(options.grammar)
    return options.grammar
