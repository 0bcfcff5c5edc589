"""The child's end of a runner: runs its jobs and calls on threads, and sends what they give.

The pieces that the runs give within a step cross in one message. The thread that adds the last one sends it;
the main thread does so if a run that gave a piece lately gives none.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, Protocol

from ollama_tw.interfaces import Job, Piece, PromptCacheFigures, PromptState
from ollama_tw.runner import messages
from ollama_tw.runner.encoding import StateReader, header_of
from ollama_tw.runner.failures import to_failure
from ollama_tw.runner.messages import Activity, Failure, FromChild, FromServer, Output

# Seconds between two reports while the runner works, which are heartbeats and give the state of a long step.
_REPORT = 0.25
# Seconds for the runs to end when the runner is closed.
_CLOSE_TIMEOUT = 5.0
_MAX_THREADS = 4096
_NO_FIGURES = PromptCacheFigures()
# Seconds to wait for the pieces of the other runs after the first one of a step.
_GATHER = 0.002


class Send(Protocol):
    """Function that sends a message, and descriptors beside it."""

    def __call__(self, message: FromChild, descriptors: Sequence[int] = ()) -> None:
        """Send ``message``."""
        ...


class _Run:
    """A job that runs: its cancel event, and the numbers of pieces that were sent and that may be.

    ``sent`` is written by the job's thread alone, ``allowed`` by the reader's.
    """

    def __init__(self, cancel: threading.Event) -> None:
        self.cancel = cancel
        self.sent = 0
        self.allowed = messages.WINDOW
        self.changed = threading.Condition()

    def add(self, count: int) -> None:
        """Allow ``count`` more pieces."""
        with self.changed:
            self.allowed += count
            self.changed.notify()

    def stop(self) -> None:
        """Cancel the job."""
        self.cancel.set()
        with self.changed:
            self.changed.notify()

    def wait(self) -> None:
        """Wait until a piece may be sent; one that ends a cancelled job always may."""
        if self.sent >= self.allowed:
            with self.changed:
                while self.sent >= self.allowed and not self.cancel.is_set():
                    self.changed.wait()
        self.sent += 1


class Host:
    """A runner, or a vocabulary, and what the server runs on it.

    ``send`` sends a message, with descriptors beside it; ``states`` are those that came beside messages.
    """

    def __init__(self, runner: Any, send: Send, states: StateReader) -> None:
        self._runner = runner
        self._send = send
        self._states = states
        self._pool = ThreadPoolExecutor(_MAX_THREADS, "run")
        self._runs: dict[int, _Run] = {}
        # Shared by all threads.
        self._changed = threading.Condition()
        self._pieces: list[tuple[int, Piece]] = []
        self._ends: list[tuple[int, Failure | None]] = []
        self._expected = 0
        """Number of runs that have given pieces lately."""
        self._working = 0
        self._closing = False
        # Under _sending: the runs of the last two messages, and when the last one was sent.
        self._sending = threading.Lock()
        self._recent: tuple[set[int], set[int]] = set(), set()
        self._sent = 0.0

    # On the thread that reads.

    def handle(self, message: FromServer) -> None:
        """Handle a message of the server; does not block."""
        match message:
            case messages.Run(number, job):
                self._runs[number] = _Run(job.cancel)
                self._begin(self._run, number, job)
            case messages.Taken(number, count):
                if run := self._runs.get(number):
                    run.add(count)
            case messages.Stop(number):
                if run := self._runs.get(number):
                    run.stop()
            case messages.Close():
                with self._changed:
                    self._closing = True
                    self._changed.notify()
            case messages.Open():
                raise ValueError("a second Open")
            case messages.TakeStates(number):
                self._begin_call(number, self._take_states)
            case messages.GiveStates(number, headers):
                # Read on this thread: the descriptors came in the order of the messages.
                self._begin_call(number, partial(self._give_states, states=self._states.read(headers)))
            case _:
                self._begin_call(message.number, partial(self._send_result, message=message))

    def _begin_call(self, number: int, work: Callable[[int], None]) -> None:
        self._runs[number] = _Run(threading.Event())
        self._begin(self._call, number, work)

    def _begin(self, work: Callable[..., None], number: int, *arguments: Any) -> None:
        with self._changed:
            self._working += 1
            if self._working == 1:
                # The sender reports from now on.
                self._changed.notify()
        self._pool.submit(work, number, *arguments)

    # On the threads of the pool.

    def _run(self, number: int, job: Job) -> None:
        run = self._runs[number]
        end: tuple[Failure | None] | None = (None,)
        try:
            with closing(self._runner.generate(job)) as pieces:
                for piece in pieces:
                    run.wait()
                    self._put(number, piece)
                    if piece.done is not None:
                        end = None
        except BaseException as error:
            end = (to_failure(error),)
        self._end(number, end)

    def _call(self, number: int, work: Callable[[int], None]) -> None:
        end: tuple[Failure | None] | None = None
        try:
            work(number)
        except BaseException as error:
            end = (to_failure(error),)
        self._end(number, end)

    def _take_states(self, number: int) -> None:
        states = self._runner.take_states()
        headers = [header_of(state) for state in states]
        self._send(messages.States(number, headers), [state.descriptor for state in states])

    def _give_states(self, number: int, states: list[PromptState]) -> None:
        self._runner.give_states(states)
        self._send(messages.States(number, []))

    def _send_result(self, number: int, message: messages.Call) -> None:
        self._send(self._result(number, message))

    def _result(self, number: int, message: messages.Call) -> messages.Result:
        cancel = self._runs[number].cancel
        match message:
            case messages.Tokenize(_, text, add_special):
                return messages.Tokens(number, list(self._runner.tokenize(text, add_special=add_special)))
            case messages.Detokenize(_, tokens):
                return messages.Text(number, self._runner.detokenize(tokens))
            case messages.Embed(_, inputs):
                return messages.Embeddings(number, list(self._runner.embed(inputs, cancel)))
            case messages.LimitStates(_, size):
                self._runner.limit_states(size)
                return messages.States(number, [])
            case messages.Rank(_, query, documents):
                return messages.Rankings(number, list(self._runner.rank(query, documents, cancel)))

    def _put(self, number: int, piece: Piece) -> None:
        with self._changed:
            self._pieces.append((number, piece))
            complete = len(self._pieces) >= self._expected
            if not complete and len(self._pieces) == 1:
                self._changed.notify()
        if complete:
            self._send_output()

    def _end(self, number: int, end: tuple[Failure | None] | None) -> None:
        del self._runs[number]
        with self._changed:
            if end is not None:
                self._ends.append((number, end[0]))
            self._working -= 1
            if end is not None or self._closing:
                self._changed.notify()

    def _send_output(self) -> bool:
        """Send what the runs gave, and return whether they gave anything. Also on the main thread."""
        # Messages leave in the order in which their pieces were taken.
        with self._sending:
            with self._changed:
                pieces, self._pieces = self._pieces, []
                ends, self._ends = self._ends, []
                if pieces:
                    given = {number for number, piece in pieces if piece.done is None}
                    self._recent = given, self._recent[0]
                    self._expected = sum(number in self._runs for number in given | self._recent[1])
            if pieces or ends:
                self._send(Output(pieces, ends, self._activity()))
                self._sent = time.monotonic()
        return bool(pieces or ends)

    # On the main thread.

    def serve(self) -> None:
        """Send what the runs give until the server closes the runner, and close it."""
        while self._send_next():
            pass
        closer = threading.Thread(target=self._close, daemon=True)
        closer.start()
        with self._changed:
            self._changed.wait_for(lambda: not self._working, _CLOSE_TIMEOUT)
        closer.join()
        self._send_output()

    def _close(self) -> None:
        for run in list(self._runs.values()):
            run.stop()
        if hasattr(self._runner, "close"):
            self._runner.close()

    def _send_next(self) -> bool:
        """Wait for output or a report's time, and send; return False when the runner is to be closed."""
        with self._changed:
            due = self._changed.wait_for(
                lambda: self._pieces or self._ends or self._closing or self._working, None
            )
            if not (self._pieces or self._ends or self._closing) and due:
                self._changed.wait_for(lambda: self._pieces or self._ends or self._closing, _REPORT)
            if self._pieces:
                self._changed.wait_for(
                    lambda: len(self._pieces) >= self._expected or self._ends or self._closing, _GATHER
                )
        reported = self._send_output() or time.monotonic() - self._sent < _REPORT
        if not reported and not self._closing:
            self._send(self._activity())
        return not self._closing

    def _activity(self) -> Activity:
        runner = self._runner
        return Activity(
            getattr(runner, "steps", 0),
            getattr(runner, "step_runs", 0),
            getattr(runner, "step_began", 0.0),
            getattr(runner, "step_rows", 0),
            getattr(runner, "state_bytes", 0),
            getattr(runner, "state_figures", _NO_FIGURES),
        )
