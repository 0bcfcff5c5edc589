"""What generate and chat mean: checks in Ollama's order, a model, a task, its run.

Source: ``spec/inference-api.md`` sections 1.2, 1.4, 2.2 and 3.
"""

import threading
import time
from functools import partial

from ollama_tw.durations import parse_keep_alive
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.errors import OllamaError
from ollama_tw.inference.catalogue import Catalogue, Entry
from ollama_tw.inference.completion import Emit, Task, complete
from ollama_tw.inference.planning import sampling, wanted
from ollama_tw.inference.prompting import PromptBuilder, chat_prompt, generate_prompt
from ollama_tw.inference.records import ChatShape, GenerateShape, Shape
from ollama_tw.settings import Settings
from ollama_tw.wire.native import ChatRequest, GenerateRequest, Record, Request
from ollama_tw.wire.options import Options, resolve

_MOST_TOP_LOGPROBS = 20


class Completions:
    """Generate and chat, for every door. Both run ``emit`` on a worker thread for each record of a
    stream and return None, or return the one record there is; ``emit`` is None where the client wants
    one record. Setting ``cancel``, or cancelling, ends them. They raise :class:`OllamaError`."""

    def __init__(self, catalogue: Catalogue, scheduler: Scheduler, settings: Settings) -> None:
        self._catalogue = catalogue
        self._scheduler = scheduler
        self._settings = settings

    async def generate(
        self, request: GenerateRequest, emit: Emit | None, cancel: threading.Event
    ) -> Record | None:
        """``/api/generate``."""
        started = time.monotonic_ns()
        keep_alive = _check(request)
        entry = await self._catalogue.find(request.model)
        shape = GenerateShape(request.model)
        if not request.prompt and keep_alive == 0:
            self._scheduler.unload(str(entry.model.model_path))
            return shape.bare("unload")
        if request.raw and (request.template or request.system or request.context):
            raise OllamaError(400, "raw mode does not support template, system, or context")
        entry.require("completion", "generate")
        options = resolve(entry.model.params, request.options)
        return await self._run(
            request,
            entry,
            options,
            keep_alive,
            shape,
            started,
            generate_prompt(entry, request, options) if request.prompt else None,
            emit,
            cancel,
        )

    async def chat(self, request: ChatRequest, emit: Emit | None, cancel: threading.Event) -> Record | None:
        """``/api/chat``."""
        started = time.monotonic_ns()
        keep_alive = _check(request)
        if not request.model.strip():
            raise OllamaError(400, "model is required")
        entry = await self._catalogue.find(request.model)
        shape = ChatShape(request.model)
        if not request.messages and keep_alive == 0:
            self._scheduler.unload(str(entry.model.model_path))
            return shape.bare("unload")
        entry.require("completion", "chat")
        options = resolve(entry.model.params, request.options)
        return await self._run(
            request,
            entry,
            options,
            keep_alive,
            shape,
            started,
            chat_prompt(entry, request, options) if request.messages else None,
            emit,
            cancel,
        )

    async def _run(
        self,
        request: Request,
        entry: Entry,
        options: Options,
        keep_alive: int | None,
        shape: Shape,
        started: int,
        build_prompt: PromptBuilder | None,
        emit: Emit | None,
        cancel: threading.Event,
    ) -> Record | None:
        """Load the model; run the prompt, where there is one, on one of the model's threads."""
        want = wanted(entry, options, self._settings, keep_alive)
        async with self._scheduler.lease(want, cancel) as lease:
            if build_prompt is None:
                return shape.bare("load")
            task = Task(
                shape=shape,
                build_prompt=build_prompt,
                sampling=sampling(options),
                stop=options.stop,
                limit=options.num_predict,
                started=started,
                load_duration=time.monotonic_ns() - started,
                with_context=isinstance(request, GenerateRequest) and not request.raw,
                debug_only=request.debug_render_only,
            )
            return await lease.run(partial(complete, task, emit=emit, cancel=cancel), cancel)


def _check(request: Request) -> int | None:
    """The checks that need no model; the request's keep_alive in nanoseconds comes out."""
    try:
        keep_alive = parse_keep_alive(request.keep_alive)
    except ValueError as error:
        raise OllamaError(400, str(error)) from error
    if not 0 <= request.top_logprobs <= _MOST_TOP_LOGPROBS:
        raise OllamaError(400, f"top_logprobs must be between 0 and {_MOST_TOP_LOGPROBS}")
    return keep_alive
