"""One completion on a worker thread, from the prompt to the last record."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.inference.images import place_images
from ollama_tw.inference.measuring import measured
from ollama_tw.inference.prompt_size import cancellable
from ollama_tw.inference.records import Closing, RecordWriter
from ollama_tw.inference.repetition import Repetition, RunCancel
from ollama_tw.interfaces import (
    DoneReason,
    InvalidGrammar,
    InvalidImages,
    IRunner,
    Job,
    LazyGrammar,
    Piece,
    PromptTooLong,
    RunnerError,
    Sampling,
    ThinkingBudget,
    TokenLogprob,
    Usage,
)
from ollama_tw.metrics import Metrics
from ollama_tw.output.description import Description, Pair
from ollama_tw.output.stream_parser import Event, StreamParser
from ollama_tw.output.tool_choice import ANY_REPLY, ToolChoice
from ollama_tw.tracking.context import RunProgress
from ollama_tw.wire.native import Emit, Note, Record, ignore

PLAIN = Description()
"""The description of output that is content only."""

_NO_USAGE = Usage(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Prompt:
    """A prompt: its text, or the tokens left of it after ``truncated`` tokens were cut."""

    text: str
    tokens: tuple[int, ...] | None = None
    truncated: int = 0
    images: tuple[bytes, ...] = ()
    """Image files, whose places ``[img-0]``, ``[img-1]``, … mark in ``text``; ``tokens`` is None then."""


@dataclass(frozen=True)
class CompletionTask:
    """A completion as plain values: all that the worker needs beside the runner."""

    writer: RecordWriter
    build_prompt: Callable[[IRunner], Prompt]
    sampling: Sampling
    stop: tuple[str, ...]
    limit: int
    """Maximum number of tokens to generate; -1 for no limit."""
    started: int
    """Time of the request, in nanoseconds of the monotonic clock."""
    load_duration: int
    """Nanoseconds from the request until the model was loaded."""
    description: Description = PLAIN
    """The marks of thinking and tool calls that are parsed."""
    thinks: bool = False
    """The thinking is enabled."""
    tools: Sequence[Mapping[str, Any]] = ()
    choice: ToolChoice = ANY_REPLY
    build_grammar: Callable[[], str] = str
    """Returns the grammar of the output, "" for none. May take a second for a large schema."""
    note: Note = ignore
    """Called with each part of a schema that the grammar does not enforce."""
    think_budget: int | None = None
    """Maximum number of tokens of the thinking, None for no limit."""
    logprobs: int | None = None
    shift: bool = False
    keep: int = 0
    with_context: bool = False
    """Put the tokens of the whole exchange into the final record."""
    ends_repetition: bool = False
    """End a run that repeats one piece endlessly."""
    debug_only: bool = False
    """Return the prompt instead of running it."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    partition: int = 0
    """Part of the prompt cache: see :class:`~ollama_tw.interfaces.Job`."""
    drafts: int | None = None
    """Maximum number of drafted tokens in a step, None: the engine decides."""
    preserved: tuple[str, ...] = ()
    """Special tokens that are part of the output, beside those of the ``description``."""
    streams_calls: bool = False
    """The arguments of calls have records of their own while they are generated."""


def complete(
    task: CompletionTask,
    runner: IRunner,
    emit: Emit | None,
    cancel: threading.Event,
    metrics: Metrics | None = None,
    progress: RunProgress | None = None,
) -> Record | None:
    """Run ``task``. Blocking, on a worker thread. What it has done is noted in ``progress``.

    With ``emit`` the records are passed to it and None is returned, else one record with everything.
    Raises :class:`OllamaError`, and :class:`Cancelled` when ``cancel`` is set. The order and the contents
    of the records are Ollama's.

    Source: ollama: server/routes.go, GenerateHandler, ChatHandler.
    """
    if cancel.is_set():
        raise Cancelled
    prompt = task.build_prompt(cancellable(runner, cancel))
    if task.debug_only:
        return task.writer.debug(prompt.text, len(prompt.images))
    reply = _Reply(task.writer, emit)
    try:
        job = _job(task, prompt, RunCancel(cancel))
        repeats = _run(task, job, prompt, runner, reply, metrics, progress)
    except (PromptTooLong, InvalidGrammar, InvalidImages) as error:
        raise OllamaError(400, str(error)) from error
    except RunnerError as error:
        raise OllamaError(500, f"an error was encountered while running the model: {error}") from error
    if reply.done is DoneReason.CANCELLED and (cancel.is_set() or not repeats):
        raise Cancelled
    if reply.done is None:
        raise OllamaError(500, "an error was encountered while running the model: no done reason was given")
    return reply.finish(
        Closing(
            done_reason="repetition" if repeats else reply.done.value,
            usage=reply.usage,
            total_duration=time.monotonic_ns() - task.started,
            load_duration=task.load_duration,
            context=_context(runner, prompt, reply.output) if task.with_context else None,
            truncated=prompt.truncated,
            stop_string=reply.stop_string,
        )
    )


def _job(task: CompletionTask, prompt: Prompt, cancel: threading.Event) -> Job:
    grammar = _grammar(task, prompt)
    text, images = place_images(prompt.text, prompt.images) if prompt.images else (prompt.text, ())
    return Job(
        prompt=text if prompt.tokens is None else prompt.tokens,
        sampling=task.sampling,
        stop=task.stop,
        max_tokens=task.limit,
        grammar=grammar,
        lazy_grammar=None if grammar else _lazy_grammar(task, prompt),
        logprobs=task.logprobs,
        shift=task.shift,
        keep=task.keep,
        cancel=cancel,
        images=images,
        logit_bias=task.logit_bias,
        thinking=_thinking_budget(task, prompt),
        drafts=task.drafts,
        partition=task.partition,
        preserved=task.description.preserved + task.preserved,
        ends=task.description.stops,
    )


def _grammar(task: CompletionTask, prompt: Prompt) -> str:
    """Return the grammar of the output: any thinking, and the answer between its marks."""
    if task.choice.required:
        from ollama_tw.output.call_grammar import call_grammar

        return call_grammar(task.description, task.tools, task.choice, _may_think(task, prompt), task.note)
    grammar = task.build_grammar()
    description = task.description
    thinking, content, turns = _thinking_marks(task, prompt), description.content, description.turns
    if not grammar or (thinking is None and content is None and turns is None):
        return grammar
    from ollama_tw.grammar.reply import Marks, whole_reply

    marks = None if thinking is None else Marks(thinking.open, thinking.close)
    if turns is not None:
        header = turns.content[0] if turns.content else ""
        return whole_reply(grammar, marks, Marks(header + turns.header_end), must_open=True)
    around = Marks() if content is None else Marks(content.open.strip(), content.close.strip())
    return whole_reply(grammar, marks, around)


def _lazy_grammar(task: CompletionTask, prompt: Prompt) -> LazyGrammar | None:
    """Return the grammar of the calls that the output may contain."""
    if not task.tools or task.description.calls is None:
        return None
    from ollama_tw.output.call_grammar import lazy_call_grammar

    return lazy_call_grammar(task.description, task.tools, task.choice, _may_think(task, prompt), task.note)


def _may_think(task: CompletionTask, prompt: Prompt) -> bool | None:
    """Return whether the prompt has opened the thinking; None if there is none to come."""
    opened = task.description.opened(prompt.text)
    return opened if task.thinks or opened else None


def _thinking_budget(task: CompletionTask, prompt: Prompt) -> ThinkingBudget | None:
    marks, tags = _thinking_marks(task, prompt), task.description.thinking
    if marks is None or tags is None or task.think_budget is None:
        return None
    return ThinkingBudget(task.think_budget, marks.open, marks.close, tags.close)


def _thinking_marks(task: CompletionTask, prompt: Prompt) -> Pair | None:
    """Return the marks that are still to come around the thinking; None if the model does not think."""
    tags, opened = task.description.thinking, _may_think(task, prompt)
    if tags is None or opened is None:
        return None
    return Pair("" if opened else tags.open.strip(), tags.close.strip())


def _run(
    task: CompletionTask,
    job: Job,
    prompt: Prompt,
    runner: IRunner,
    reply: "_Reply",
    metrics: Metrics | None,
    progress: RunProgress | None,
) -> bool:
    """Generate and parse the output into ``reply``; return True if it was ended as endless repetition."""
    parser = StreamParser(_parsed(task, prompt), task.tools, prompt=prompt.text, parts=task.streams_calls)
    repetition = Repetition()
    repeats = False
    with closing(measured(runner.generate(job), task.started, metrics, progress)) as pieces:
        for piece in pieces:
            if not repeats and task.ends_repetition and repetition.add(piece.text):
                repeats = True
                job.cancel.set()
            if repeats:
                # What is left is the last piece, with the figures.
                reply.add(replace(piece, text="", logprobs=()), ())
            else:
                reply.add(piece, parser.feed(piece.text))
    reply.add(Piece(""), parser.finish())
    return repeats


def _parsed(task: CompletionTask, prompt: Prompt) -> Description:
    """Return what is parsed: thinking only if it is enabled, or if the prompt has opened it all the same."""
    if task.thinks or task.description.opened(prompt.text):
        return task.description
    return replace(task.description, thinking=None)


def _context(runner: IRunner, prompt: Prompt, output: str) -> list[int]:
    """Return the tokens of the exchange, which a client sends back to continue it."""
    if prompt.tokens is None:
        return list(runner.tokenize(prompt.text + output, add_special=False))
    return [*prompt.tokens, *runner.tokenize(output, add_special=False)]


@dataclass
class _Reply:
    """The output of a run: passed to ``emit`` record by record, or collected without it."""

    writer: RecordWriter
    emit: Emit | None
    done: DoneReason | None = None
    usage: Usage = _NO_USAGE
    stop_string: str = ""
    _texts: list[str] = field(default_factory=list)
    _events: list[Event] = field(default_factory=list)
    _logprobs: list[TokenLogprob] = field(default_factory=list)

    def add(self, piece: Piece, events: Sequence[Event]) -> None:
        """Add ``piece`` and the ``events`` that the parser found in it."""
        if piece.done is not None and piece.usage is not None:
            self.done, self.usage, self.stop_string = piece.done, piece.usage, piece.stop_string
        self._texts.append(piece.text)
        if self.emit is None:
            self._events += events
            self._logprobs += piece.logprobs
            return
        # The piece's text may be held back, or in several records: the first one has the logprobs.
        logprobs = piece.logprobs
        for event in events:
            self.emit(self.writer.record([event], logprobs))
            logprobs = ()
        if logprobs:
            self.emit(self.writer.record([], logprobs))

    @property
    def output(self) -> str:
        """The model's output before it was parsed."""
        return "".join(self._texts)

    def finish(self, closing: Closing) -> Record | None:
        """Emit the final record; without ``emit``, return the one record."""
        record = self.writer.record(self._events, self._logprobs, closing)
        if self.emit is None:
            return record
        self.emit(record)
        return None
