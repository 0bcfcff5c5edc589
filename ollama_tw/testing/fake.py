"""A backend without a model: what comes out of it is known, and when it comes is up to the test.

A token is a character. A prompt is answered with its own text again and again, or with the
``reply`` that the test gave. Nothing here waits for time to pass: what takes long does so at an
event of the test, and looks for a cancel meanwhile.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    Probe,
    Progress,
    PromptTooLong,
    Ranking,
    RemoteModel,
    RunnerError,
    Usage,
)

NANOSECONDS_PER_TOKEN = 1_000_000
"""What the figures of every run say that a token took."""

_POLL = 0.002
_LAST_CHARACTER = 0x10FFFF

Reply = Callable[[str], Iterable[str]]
"""From a prompt to the pieces of the answer, one token each however long they are."""


def echo(prompt: str) -> Iterable[str]:
    """The prompt's characters, again and again without end."""
    return cycle(prompt)


def words(text: str) -> Reply:
    """An answer that is always ``text``, a word to a token."""
    first, *others = text.split(" ")
    pieces = [first, *(" " + word for word in others)]
    return lambda prompt: pieces


def open_gate() -> threading.Event:
    """An event that is set."""
    gate = threading.Event()
    gate.set()
    return gate


@implementer(IRunner, IReranker)
class FakeRunner:
    """See :class:`IRunner` and :class:`IReranker`.

    ``gate`` halts all runs before their next token while it is clear.
    """

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
    ) -> None:
        self.plan = plan
        self.reply = reply
        self.size = size
        self.context_length = plan.context_length
        self.slots = plan.slots
        self.metadata = metadata or {"general.architecture": "fake"}
        self.bos_text = bos_text
        self.eos_text = ""
        self.adds_bos = bool(bos_text)
        self.failure = failure
        """Raised by every run after its first token."""
        self.gate = open_gate()
        self.jobs: list[Job] = []
        """Every job that was given, in order."""
        self.running = 0
        self.closed = False
        self._changed = threading.Condition()
        self._free = [""] * plan.slots
        """What each slot without a run remembers."""

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        begin = self.bos_text if add_special and self.adds_bos else ""
        return [ord(character) for character in begin + text]

    def detokenize(self, tokens: Sequence[int]) -> str:
        for token in tokens:
            if not 0 <= token <= _LAST_CHARACTER:
                raise RunnerError(f"token {token} is not in this model's vocabulary")
        return "".join(map(chr, tokens))

    def generate(self, job: Job) -> Iterator[Piece]:
        prompt = job.prompt if isinstance(job.prompt, tuple) else self.tokenize(job.prompt)
        if len(prompt) >= self.context_length:
            raise PromptTooLong(len(prompt), self.context_length)
        text = self.detokenize(prompt)
        slot = self._take_slot(job, text)
        if slot is None:
            yield Piece("", done=DoneReason.CANCELLED, usage=Usage(len(prompt), 0, 0, 0, 0))
            return
        cached = _common(slot, text[:-1])
        try:
            yield from self._answer(job, text, cached)
        finally:
            with self._changed:
                self.running -= 1
                self._free.append(text)
                self._changed.notify_all()

    def _take_slot(self, job: Job, text: str) -> str | None:
        """The text that the best free slot remembers, None for a job that was cancelled first."""
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
            best = max(self._free, key=lambda held: _common(held, text))
            self._free.remove(best)
            return best

    def _answer(self, job: Job, text: str, cached: int) -> Iterator[Piece]:
        room = self.context_length - len(text)
        limit = min(job.max_tokens, room) if job.max_tokens >= 0 else room
        done = DoneReason.STOP
        count = 0
        held = ""
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
            held += piece
            stops = [at for at in (held.find(stop) for stop in job.stop if stop) if at >= 0]
            if stops:
                held = held[: min(stops)]
                break
            keep = _may_become(held, job.stop)
            yield Piece(held[: len(held) - keep])
            held = held[len(held) - keep :]
            if self.failure is not None:
                raise self.failure
        evaluated = len(text) - cached
        usage = Usage(
            len(text), cached, evaluated * NANOSECONDS_PER_TOKEN, count, count * NANOSECONDS_PER_TOKEN
        )
        yield Piece(held, done=done, usage=usage)

    def _ended(self, job: Job) -> bool:
        return self.closed or job.cancel.is_set()

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        for text in inputs:
            if len(text) > self.context_length:
                raise PromptTooLong(len(text), self.context_length)
        return [Embedding((float(len(text)), float(sum(map(ord, text))), 1.0), len(text)) for text in inputs]

    def rank(self, query: str, documents: Sequence[str], cancel: threading.Event) -> Sequence[Ranking]:
        """A document's score is how many characters at its beginning are the query's."""
        sizes = [len(query) + len(document) for document in documents]
        for index, size in enumerate(sizes):
            if size > self.context_length:
                raise PromptTooLong(size, self.context_length, index)
        scores = [_common(query, document) for document in documents]
        return [Ranking(float(score), size) for score, size in zip(scores, sizes, strict=True)]

    def close(self) -> None:
        with self._changed:
            if self.closed:
                raise AssertionError("a runner is closed once")
            self.closed = True
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when ``condition`` holds, which is looked at whenever a run begins or ends."""
        with self._changed:
            if not self._changed.wait_for(condition, 30):
                raise AssertionError("what was waited for did not come about")


def _common(left: str, right: str) -> int:
    """The length of the common beginning."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return sum(1 for _ in pairs)


def _may_become(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of ``text`` may be the beginning of a stop string."""
    return max(
        (size for one in stop for size in range(1, len(one)) if text.endswith(one[:size])),
        default=0,
    )


@implementer(IPlugin, IBackend, IModelSource)
class FakeBackend:
    """See :class:`IBackend` and :class:`IModelSource`. ``gate`` halts a load while it is clear; ``error``
    makes it fail."""

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
        """Whether a load comes to its end though ``progress`` says no."""
        self.sizes: dict[str, int] = {}
        """Bytes by model path; 1 MiB for all others."""
        self.plans: list[LoadPlan] = []
        """Of every load that was begun, in order."""
        self.runners: list[FakeRunner] = []
        """Everything that was loaded, in order."""
        self.began = threading.Event()
        """Set when a load begins."""
        self.remote_models: list[RemoteModel] = []
        """What it has without a file."""
        self._trained_context = trained_context
        self._bos_text = bos_text

    def probe(self) -> Probe:
        return Probe((Device("FAKE", "no device at all", "cpu", 1 << 30, 1 << 30),))

    def models(self) -> Sequence[RemoteModel]:
        return list(self.remote_models)

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
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
