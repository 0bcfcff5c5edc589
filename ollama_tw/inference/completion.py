"""The work of one completion, as a worker thread does it from the prompt to the last record."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.inference.records import Closing, Delta, Shape
from ollama_tw.interfaces import (
    DoneReason,
    IRunner,
    Job,
    PromptTooLong,
    RunnerError,
    Sampling,
    Usage,
)
from ollama_tw.wire.native import Record

Emit = Callable[[Record], None]
"""Takes one record of a stream, on the worker's thread; may block, raises Cancelled when nobody reads."""


@dataclass(frozen=True)
class Prompt:
    """A prompt's text, and how many tokens were cut away to make it fit."""

    text: str
    truncated: int = 0


@dataclass(frozen=True)
class Task:
    """A completion as plain values; the worker needs nothing else but the runner.

    ``started`` and ``load_duration``: nanoseconds, on the monotonic clock the one.
    ``limit``: most tokens to generate, -1 for no limit of its own.
    """

    shape: Shape
    build_prompt: Callable[[IRunner], Prompt]
    sampling: Sampling
    stop: tuple[str, ...]
    limit: int
    started: int
    load_duration: int
    with_context: bool = False
    """Whether the final record carries the tokens of the whole exchange."""
    debug_only: bool = False
    """Whether the prompt alone is wanted."""


def complete(task: Task, runner: IRunner, emit: Emit | None, cancel: threading.Event) -> Record | None:
    """Run ``task``. With ``emit`` the records go there and nothing is returned, without it they are
    returned as one. Raises :class:`OllamaError`; :class:`Cancelled` when ``cancel`` was set.

    Source: ``spec/inference-api.md`` sections 1.9, 1.10 and 1.13.
    """
    if cancel.is_set():
        raise Cancelled
    prompt = task.build_prompt(runner)
    if task.debug_only:
        return task.shape.debug(prompt.text)
    job = Job(prompt.text, task.sampling, task.stop, task.limit, cancel=cancel)
    output: list[str] = []
    done, usage = DoneReason.CANCELLED, Usage(0, 0, 0, 0, 0)
    try:
        for piece in runner.generate(job):
            if piece.text:
                output.append(piece.text)
                if emit is not None:
                    emit(task.shape.delta(Delta(piece.text)))
            if piece.done is not None and piece.usage is not None:
                done, usage = piece.done, piece.usage
    except PromptTooLong as error:
        raise OllamaError(400, str(error)) from error
    except RunnerError as error:
        raise OllamaError(500, f"an error was encountered while running the model: {error}") from error
    if done is DoneReason.CANCELLED:
        raise Cancelled
    text = "".join(output)
    closing = Closing(
        done_reason=done.value,
        usage=usage,
        total_duration=time.monotonic_ns() - task.started,
        load_duration=task.load_duration,
        context=list(runner.tokenize(prompt.text + text, add_special=False)) if task.with_context else None,
        truncated=prompt.truncated,
    )
    if emit is None:
        return task.shape.final(Delta(text), closing)
    emit(task.shape.final(Delta(), closing))
    return None
