"""The work of one completion, as a worker thread does it from the prompt to the last record."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.inference.images import place_images
from ollama_tw.inference.measuring import measured
from ollama_tw.inference.records import Closing, Delta, Shape
from ollama_tw.interfaces import (
    DoneReason,
    InvalidGrammar,
    InvalidImages,
    IRunner,
    Job,
    Piece,
    PromptTooLong,
    RunnerError,
    Sampling,
    TokenLogprob,
    Usage,
)
from ollama_tw.metrics import Metrics
from ollama_tw.output.model_syntax import Syntax
from ollama_tw.output.stream_parser import Call, Content, Event, StreamParser, Thinking
from ollama_tw.wire.native import Emit, Record, ToolCall

PLAIN = Syntax()
"""All output is content."""

_MOST_REPEATS = 30

_NOTHING = Usage(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Prompt:
    """A prompt's text, or the tokens that were left of it when ``truncated`` tokens were cut away."""

    text: str
    tokens: tuple[int, ...] | None = None
    truncated: int = 0
    images: tuple[bytes, ...] = ()
    """The files whose places ``[img-0]``, ``[img-1]`` and so on mark in ``text``; ``tokens`` is None then."""


@dataclass(frozen=True)
class CompletionTask:
    """A completion as plain values; the worker needs nothing else but the runner."""

    shape: Shape
    build_prompt: Callable[[IRunner], Prompt]
    sampling: Sampling
    stop: tuple[str, ...]
    limit: int
    """Most tokens to generate, -1 for no limit of its own."""
    started: int
    """When the request came, in nanoseconds of the monotonic clock."""
    load_duration: int
    """Nanoseconds until the model was there."""
    syntax: Syntax = PLAIN
    """How the model marks its thinking and its tool calls, as far as they are to be told apart."""
    tools: Sequence[Mapping[str, Any]] = ()
    build_grammar: Callable[[], str] = str
    """The grammar that the output has to match, "" for none; may take a second for a large schema."""
    thinks_first: bool = False
    """Whether the grammar holds from where the thinking ends, not from the first token."""
    logprobs: int | None = None
    shift: bool = False
    keep: int = 0
    with_context: bool = False
    """Whether the final record carries the tokens of the whole exchange."""
    ends_repetition: bool = False
    """Whether a model that says the same again and again is cut off, without a final record."""
    debug_only: bool = False
    """Whether the prompt alone is wanted."""
    logit_bias: tuple[tuple[int, float], ...] = ()


def complete(
    task: CompletionTask,
    runner: IRunner,
    emit: Emit | None,
    cancel: threading.Event,
    metrics: Metrics | None = None,
) -> Record | None:
    """Run ``task``. With ``emit`` the records go there and nothing is returned, without it they are
    returned as one. Raises :class:`OllamaError`; :class:`Cancelled` when ``cancel`` was set.

    Source: ``spec/inference-api.md`` sections 1.9, 1.10, 1.13 and 2.6.
    """
    if cancel.is_set():
        raise Cancelled
    prompt = task.build_prompt(runner)
    if task.debug_only:
        return task.shape.debug(prompt.text, len(prompt.images))
    text, images = place_images(prompt.text, prompt.images) if prompt.images else (prompt.text, ())
    grammar = task.build_grammar()
    job = Job(
        prompt=text if prompt.tokens is None else prompt.tokens,
        sampling=task.sampling,
        stop=task.stop,
        max_tokens=task.limit,
        grammar=grammar,
        logprobs=task.logprobs,
        shift=task.shift,
        keep=task.keep,
        cancel=cancel,
        images=images,
        logit_bias=task.logit_bias,
    )
    reply = _Reply(task.shape, emit)
    syntax = task.syntax.after(prompt.text)
    try:
        if grammar and task.thinks_first and syntax.thinking is not None and prompt.tokens is None:
            thought = _think(runner, replace(job, grammar=""), syntax, reply)
            job = replace(job, prompt=text + thought)
            syntax = replace(syntax, thinking=None)
        parser = StreamParser(syntax, task.tools)
        repetition = _Repetition()
        for piece in _closing(measured(runner.generate(job), task.started, metrics)):
            if task.ends_repetition and repetition.goes_on(piece.text):
                break
            reply.add(piece, parser.feed(piece.text))
        reply.add(Piece(""), parser.finish())
    except (PromptTooLong, InvalidGrammar, InvalidImages) as error:
        raise OllamaError(400, str(error)) from error
    except RunnerError as error:
        raise OllamaError(500, f"an error was encountered while running the model: {error}") from error
    if repetition.endless:
        return task.shape.delta(reply.whole) if emit is None else None
    if reply.done is DoneReason.CANCELLED:
        raise Cancelled
    if reply.done is None:
        raise OllamaError(500, "an error was encountered while running the model: it ended without a reason")
    closing = Closing(
        done_reason=reply.done.value,
        usage=reply.usage,
        total_duration=time.monotonic_ns() - task.started,
        load_duration=task.load_duration,
        context=_context(runner, prompt, reply.raw) if task.with_context else None,
        truncated=prompt.truncated,
    )
    if emit is None:
        return task.shape.final(reply.whole, closing)
    emit(task.shape.final(Delta(), closing))
    return None


@dataclass
class _Repetition:
    """How often in a row a model has said the same. Source: ``spec/inference-api.md`` section 1.9."""

    text: str = ""
    count: int = 0

    def goes_on(self, piece: str) -> bool:
        """Whether with ``piece`` it has been too often; those held back as yet say nothing."""
        if piece:
            said = piece.strip()
            self.count = self.count + 1 if said == self.text else 0
            self.text = said
        return self.endless

    @property
    def endless(self) -> bool:
        return self.count > _MOST_REPEATS


def _think(runner: IRunner, job: Job, syntax: Syntax, reply: "_Reply") -> str:
    """Let the model think freely until its answer begins; what it said until then is returned.

    The answer's beginning is thrown away: it will be made again, under the grammar.
    """
    assert syntax.thinking is not None
    parser = StreamParser(syntax)
    raw = ""
    pieces = runner.generate(job)
    for piece in _closing(pieces):
        raw += piece.text
        events = parser.feed(piece.text)
        reply.add(
            replace(piece, text="", done=None, usage=None),
            [event for event in events if isinstance(event, Thinking)],
        )
        if any(isinstance(event, Content) for event in events):
            break
        if piece.done is DoneReason.CANCELLED:
            raise Cancelled
    end = raw.rfind(syntax.thinking.close)
    if end < 0:
        return ""
    end += len(syntax.thinking.close)
    spaces = len(raw[end:]) - len(raw[end:].lstrip())
    return raw[: end + spaces]


def _closing(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The ``pieces``; when the loop over them is left early, their run ends."""
    try:
        yield from pieces
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def _context(runner: IRunner, prompt: Prompt, output: str) -> list[int]:
    """The tokens of the exchange, which a client sends back to go on with it."""
    if prompt.tokens is None:
        return list(runner.tokenize(prompt.text + output, add_special=False))
    return [*prompt.tokens, *runner.tokenize(output, add_special=False)]


@dataclass
class _Reply:
    """What has been said so far: passed on in a stream, else collected."""

    shape: Shape
    emit: Emit | None
    done: DoneReason | None = None
    usage: Usage = _NOTHING
    _raw: list[str] = field(default_factory=list)
    _content: list[str] = field(default_factory=list)
    _thinking: list[str] = field(default_factory=list)
    _calls: list[ToolCall] = field(default_factory=list)
    _logprobs: list[TokenLogprob] = field(default_factory=list)

    def add(self, piece: Piece, events: Sequence[Event]) -> None:
        """Take in ``piece`` and the ``events`` that it brought about."""
        if piece.done is not None and piece.usage is not None:
            self.done, self.usage = piece.done, piece.usage
        self._raw.append(piece.text)
        deltas = [_delta(event) for event in events]
        if piece.logprobs:
            # They belong to the piece, whose text may be held back or in several records.
            first, *others = deltas or [Delta()]
            deltas = [replace(first, logprobs=piece.logprobs), *others]
        for delta in deltas:
            if self.emit is not None:
                self.emit(self.shape.delta(delta))
            else:
                self._content.append(delta.content)
                self._thinking.append(delta.thinking)
                self._calls += delta.calls
                self._logprobs += delta.logprobs

    @property
    def raw(self) -> str:
        """The model's output as it came."""
        return "".join(self._raw)

    @property
    def whole(self) -> Delta:
        """Everything, where it was collected."""
        return Delta(
            "".join(self._content), "".join(self._thinking), tuple(self._calls), tuple(self._logprobs)
        )


def _delta(event: Event) -> Delta:
    match event:
        case Content(text):
            return Delta(content=text)
        case Thinking(text):
            return Delta(thinking=text)
        case Call(call):
            return Delta(calls=(call,))
