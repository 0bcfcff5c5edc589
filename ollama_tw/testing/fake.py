"""Fake backend with deterministic output, whose timing the test controls.

A token is a character. The output is the prompt, repeated without end, or the test's ``reply``, whose pieces
may be control tokens. No time passes by itself: loads and jobs are delayed by events of the test, and can be
cancelled meanwhile.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import cycle, takewhile

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import (
    Device,
    DoneReason,
    Embedding,
    IBackend,
    IModelSource,
    IReranker,
    IRunner,
    Job,
    LoadCancelled,
    LoadError,
    LoadPlan,
    Piece,
    Prefill,
    Probe,
    Progress,
    PromptTooLong,
    Ranking,
    RemoteModel,
    RunnerError,
    Usage,
)

NANOSECONDS_PER_TOKEN = 1_000_000
"""Duration of a token in the usage of every job."""

_POLL = 0.002
_LAST_CHARACTER = 0x10FFFF

Reply = Callable[[str], Iterable[str]]
"""Function from a prompt to the pieces of the output, each of which counts as one token."""


def echo(prompt: str) -> Iterable[str]:
    """Repeat the characters of the prompt without end."""
    return cycle(prompt)


def words(text: str) -> Reply:
    """Return a reply that is always ``text``, with one token for each word."""
    first, *others = text.split(" ")
    pieces = [first, *(" " + word for word in others)]
    return lambda prompt: pieces


def open_gate() -> threading.Event:
    """Return an event that is set."""
    gate = threading.Event()
    gate.set()
    return gate


@implementer(IRunner, IReranker)
class FakeRunner:
    """Fake model. All jobs stop before their next token while ``gate`` is clear."""

    size_gpu = 0

    def __init__(
        self,
        plan: LoadPlan,
        reply: Reply = echo,
        *,
        size: int = 1 << 20,
        metadata: Mapping[str, str] | None = None,
        bos_text: str = "",
        failure: RunnerError | None = None,
        controls: Collection[str] = (),
    ) -> None:
        """Pieces in ``controls`` are control tokens: silent unless the job preserves them."""
        self.plan = plan
        self.reply = reply
        self.size = size
        self.context_length = plan.context_length
        self.slots = plan.slots
        self.metadata = metadata or {"general.architecture": "fake"}
        self.bos_text = bos_text
        self.eos_text = ""
        self.adds_bos = bool(bos_text)
        self._controls = frozenset(controls)
        self.failure = failure
        """Raised by every job after its first token."""
        self.gate = open_gate()
        self.prefill_chunk = 0
        """Number of tokens of the prompt after which each job reports its progress; 0 for no reports."""
        self.jobs: list[Job] = []
        """All jobs in the order of their start."""
        self.running = 0
        self.closed = False
        self._changed = threading.Condition()
        self._free = [(0, "")] * plan.slots
        """Partition and cached text of each free slot."""

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the code points of ``text``, after those of ``bos_text``."""
        begin = self.bos_text if add_special and self.adds_bos else ""
        return [ord(character) for character in begin + text]

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the characters of ``tokens``."""
        for token in tokens:
            if not 0 <= token <= _LAST_CHARACTER:
                raise RunnerError(f"token {token} is not in this model's vocabulary")
        return "".join(map(chr, tokens))

    def generate(self, job: Job) -> Iterator[Piece]:
        """Yield the reply, one piece for each token."""
        prompt = job.prompt if isinstance(job.prompt, tuple) else self.tokenize(job.prompt)
        if len(prompt) >= self.context_length:
            raise PromptTooLong(len(prompt), self.context_length)
        text = self.detokenize(prompt)
        slot = self._take_slot(job, text)
        if slot is None:
            yield Piece("", done=DoneReason.CANCELLED, usage=Usage(len(prompt), 0, 0, 0, 0))
            return
        cached = _reusable(slot, job, text[:-1])
        try:
            yield from self._reply_to(job, text, cached)
        finally:
            with self._changed:
                self.running -= 1
                self._free.append((job.partition, text))
                self._changed.notify_all()

    def _take_slot(self, job: Job, text: str) -> tuple[int, str] | None:
        """Wait for a slot and return what it has cached, None if the job is cancelled first."""
        with self._changed:
            self.jobs.append(job)
            while not self._free:
                if self._ended(job):
                    return None
                self._changed.wait(_POLL)
            if self._ended(job):
                return None
            self.running += 1
            self._changed.notify_all()
            best = max(self._free, key=lambda held: _reusable(held, job, text))
            self._free.remove(best)
            return best

    def _prefill(self, job: Job, total: int, cached: int) -> Iterator[Piece]:
        for done in range(cached + self.prefill_chunk, total, self.prefill_chunk):
            yield Piece("", prefill=Prefill(done, total))
            while not self.gate.wait(_POLL) and not self._ended(job):
                pass

    def _reply_to(self, job: Job, text: str, cached: int) -> Iterator[Piece]:
        if self.prefill_chunk:
            yield from self._prefill(job, len(text), cached)
        capacity = self.context_length - len(text)
        limit = min(job.max_tokens, capacity) if job.max_tokens >= 0 else capacity
        done = DoneReason.STOP
        count = 0
        held = stopped = ""
        for piece in self.reply(text):
            while not self.gate.wait(_POLL) and not self._ended(job):
                pass
            if self._ended(job):
                done = DoneReason.CANCELLED
                break
            if count >= limit:
                done = DoneReason.LENGTH
                break
            count += 1
            if piece not in self._controls or piece in job.preserved:
                held += piece
            stops = [(at, stop) for stop in job.stop + job.ends if stop and (at := held.find(stop)) >= 0]
            if stops:
                at, stopped = min(stops)
                held = held[:at]
                break
            keep = _may_become(held, job.stop + job.ends)
            yield Piece(held[: len(held) - keep])
            held = held[len(held) - keep :]
            if self.failure is not None:
                raise self.failure
        evaluated = len(text) - cached
        usage = Usage(
            len(text), cached, evaluated * NANOSECONDS_PER_TOKEN, count, count * NANOSECONDS_PER_TOKEN
        )
        yield Piece(held, done=done, usage=usage, stop_string=stopped if stopped in job.stop else "")

    def _ended(self, job: Job) -> bool:
        return self.closed or job.cancel.is_set()

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        """Return vectors of the length of the text, the sum of its code points, and 1."""
        for text in inputs:
            if len(text) > self.context_length:
                raise PromptTooLong(len(text), self.context_length)
        return [Embedding((float(len(text)), float(sum(map(ord, text))), 1.0), len(text)) for text in inputs]

    def rank(self, query: str, documents: Sequence[str], cancel: threading.Event) -> Sequence[Ranking]:
        """Return rankings whose score is the length of the common prefix with the query."""
        sizes = [len(query) + len(document) for document in documents]
        for index, size in enumerate(sizes):
            if size > self.context_length:
                raise PromptTooLong(size, self.context_length, index)
        scores = [_common_prefix(query, document) for document in documents]
        return [Ranking(float(score), size) for score, size in zip(scores, sizes, strict=True)]

    def close(self) -> None:
        """End all jobs. Raises AssertionError if it was called before."""
        with self._changed:
            if self.closed:
                raise AssertionError("close() was called twice")
            self.closed = True
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()`` is true; it is checked whenever a job begins or ends."""
        with self._changed:
            if not self._changed.wait_for(condition, 30):
                raise AssertionError("the condition was not met within 30 s")


def _reusable(held: tuple[int, str], job: Job, text: str) -> int:
    partition, cached = held
    return _common_prefix(cached, text) if partition == job.partition else 0


def _common_prefix(left: str, right: str) -> int:
    """Return the length of the common prefix."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return sum(1 for _ in pairs)


def _may_become(text: str, stop: Sequence[str]) -> int:
    """Return the number of last characters of ``text`` that may be the beginning of a stop string."""
    return max(
        (size for one in stop for size in range(1, len(one)) if text.endswith(one[:size])),
        default=0,
    )


@implementer(IPlugin, IBackend, IModelSource)
class FakeBackend:
    """Fake backend. A load stops while ``gate`` is clear, and fails if ``error`` is set."""

    priority = -100

    def __init__(
        self,
        reply: Reply = echo,
        *,
        name: str = "fake",
        trained_context: int = 1 << 20,
        bos_text: str = "",
    ) -> None:
        self.name = name
        self.reply = reply
        self.gate = open_gate()
        self.error: str | None = None
        self.deaf = False
        """True if a load ignores that ``progress`` returns False."""
        self.sizes: dict[str, int] = {}
        """Bytes by model path; 1 MiB for all others."""
        self.plans: list[LoadPlan] = []
        """Plans of all loads in the order of their start."""
        self.runners: list[FakeRunner] = []
        """All loaded runners in order."""
        self.began = threading.Event()
        """Set when a load begins."""
        self.remote_models: list[RemoteModel] = []
        """Models that it lists."""
        self._trained_context = trained_context
        self._bos_text = bos_text

    def probe(self) -> Probe:
        """Return one device with 1 GiB."""
        return Probe((Device("FAKE", "not a device", "cpu", 1 << 30, 1 << 30),))

    def models(self) -> Sequence[RemoteModel]:
        """Return ``remote_models``."""
        return list(self.remote_models)

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        """Load a :class:`FakeRunner`, reporting progress while ``gate`` is clear."""
        self.plans.append(plan)
        self.began.set()
        going = progress(0.0)
        while not self.gate.wait(_POLL) and (going or self.deaf):
            going = progress(0.5)
        if not progress(1.0) and not self.deaf:
            raise LoadCancelled("the load was cancelled")
        if self.error is not None:
            raise LoadError(self.error)
        runner = FakeRunner(
            plan, self.reply, size=self.sizes.get(plan.model_path, 1 << 20), bos_text=self._bos_text
        )
        runner.context_length = min(plan.context_length, self._trained_context)
        self.runners.append(runner)
        return runner
