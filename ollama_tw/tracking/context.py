"""Context of a request: its cancel event, its client, and the progress of the models that run for it."""

import threading
import time
from collections.abc import Callable
from enum import StrEnum

from ollama_tw.errors import OllamaError
from ollama_tw.tracking.priority import Priority

_CANCELLED = "the request was cancelled by DELETE /api/requests"


def _nothing(*_: object) -> None:
    pass


class Phase(StrEnum):
    """Phase of a run."""

    QUEUED = "queued"
    LOADING = "loading"
    PREFILL = "prefill"
    DECODE = "decode"


_ORDER = tuple(Phase)


class RunProgress:
    """Progress of one run of a model.

    It is written on the reactor thread until the run has a slot, then on its worker thread, and read on the
    reactor thread.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.phase = Phase.QUEUED
        self.prompt_tokens = 0
        """Number of tokens of the prompt, 0 while it is unknown."""
        self.prompt_done = 0
        """Number of them that are in the KV cache."""
        self.tokens = 0
        """Number of tokens that were generated."""
        self.first_token = 0.0
        """Monotonic time of the first token in seconds, 0.0 before it."""

    def prompt(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` tokens of the prompt are evaluated."""
        self.phase = Phase.PREFILL
        self.prompt_done, self.prompt_tokens = done, total

    def finish(self, prompt_tokens: int, tokens: int) -> None:
        """Set the numbers of tokens that the engine reports at the end."""
        self.prompt_tokens = self.prompt_done = prompt_tokens
        self.tokens = tokens

    def token(self) -> None:
        """Note a generated token."""
        if not self.tokens:
            self.phase = Phase.DECODE
            self.first_token = time.monotonic()
            self.prompt_done = self.prompt_tokens
        self.tokens += 1


class RequestContext(threading.Event):
    """A request in progress; as an event, it is set when the request is cancelled.

    A request for several choices has several runs. All attributes are written on the reactor
    thread.
    """

    def __init__(self, request_id: str = "", client: str = "", priority: Priority = Priority.NORMAL) -> None:
        super().__init__()
        self.request_id = request_id
        self.client = client
        """Name of the client: of its key, or its address."""
        self.priority = priority
        self.partition = 0
        """Part of the prompt cache that the client's prompts use: see :class:`~ollama_tw.interfaces.Job`."""
        self.endpoint = ""
        self.began = time.monotonic()
        self.runs: list[RunProgress] = []
        """The runs that wait or run now."""
        self.model = ""
        """The model of the last run, "" before one has ended."""
        self.prompt_tokens = self.tokens = 0
        """Numbers of tokens of the runs that have ended: of their prompts, and generated ones."""
        self.stop: Callable[[], None] = _nothing
        """Cancels the work for the request."""
        self.on_queued: Callable[[int], None] = _nothing
        """Called with the place of a run in the queue, when it begins to wait."""
        self._cancelled = False

    def begin(self, model: str) -> RunProgress:
        """Return a new run of ``model``, which is shown from now on."""
        run = RunProgress(model)
        self.runs.append(run)
        return run

    def end(self, run: RunProgress) -> None:
        """Remove a run, and add its tokens to those of the request."""
        self.runs.remove(run)
        self.model = run.model
        self.prompt_tokens += run.prompt_tokens
        self.tokens += run.tokens

    def cancel(self) -> None:
        """Cancel the request on behalf of an operator or its client."""
        self._cancelled = True
        self.set()
        self.stop()

    def check(self) -> None:
        """Raise :class:`OllamaError` 499 if :meth:`cancel` was called."""
        if self._cancelled:
            raise OllamaError(499, _CANCELLED)

    @property
    def phase(self) -> Phase:
        """The phase of the run that has come furthest."""
        return max((run.phase for run in self.runs), key=_ORDER.index)
