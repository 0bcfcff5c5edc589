"""Runner of a model on other servers: prompts are sent as tokens, the output is text."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeVar

from zope.interface import implementer

from ollama_tw import interfaces as tw
from ollama_tw.support.http import EngineError
from ollama_tw.support.router import block_hashes
from ollama_tw.support.runner import SlotRunner
from ollama_tw.support.text import TextAssembler
from ollama_tw_upstream.engines import Engine, Listing
from ollama_tw_upstream.peers import Peer, Peers
from ollama_tw_upstream.servers import Server

T = TypeVar("T")

_FAULTS = frozenset({400, 413, 422})
"""Statuses of requests that no other server would accept."""


@implementer(tw.IReplicated)
class UpstreamRunner(SlotRunner):
    """A model on ``servers``, each job on one of them; it has as many slots as they have lanes together.

    A job that fails before it has given output is sent to another server.
    """

    def __init__(self, plan: tw.LoadPlan, name: str, servers: Sequence[Server]) -> None:
        """``name`` is the model's. Raises LoadError."""
        super().__init__(plan, "remote")
        self._peers = Peers(
            name, servers, self._count_slots, lanes=plan.slots, context_length=plan.context_length
        )
        self._peers.open()
        self.context_length = self._peers.context_length
        try:
            listing = self._ask(lambda engine, listing: listing)
            self.vocabulary_size = listing.vocabulary_size or self.vocabulary_size
            self.bos_text, self.eos_text = self._ask(lambda engine, listing: engine.texts(listing))
            self.adds_bos = bool(self.tokenize(""))
        except tw.RunnerError as error:
            self._peers.close()
            raise tw.LoadError(str(error)) from error
        self._count_slots()

    @property
    def replicas(self) -> Sequence[tw.ReplicaState]:
        """The servers. See IReplicated."""
        return self._peers.replicas

    def _count_slots(self) -> None:
        self.resize(self._peers.slots)

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the tokens of ``text``, from one of the servers."""
        return self._ask(lambda engine, listing: engine.tokenize(listing, text, add_special=add_special))

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``, from one of the servers."""
        self.check(tokens)
        return self._ask(lambda engine, listing: engine.detokenize(listing, tokens))

    def _ask(self, question: Callable[[Engine, Listing], T]) -> T:
        """Return the answer of the first server that gives one."""
        refusal: EngineError | None = None
        for peer in self._peers.ready():
            engine, listing = peer.engine, peer.listing
            if engine is None or listing is None:
                continue
            try:
                return question(engine, listing)
            except EngineError as error:
                if error.status in _FAULTS:
                    raise
                self._peers.failed(peer, error)
                refusal = error
        raise refusal or self._none_is_ready()

    def _none_is_ready(self) -> tw.RunnerError:
        return tw.RunnerError(f"no server can run the model now: {self._peers.reasons()}")

    def run(self, job: tw.Job, prompt: Sequence[int], limit: int) -> Iterator[tw.Piece]:
        """Yield a piece for each event of a server's stream."""
        blocks = block_hashes(prompt)
        tried: list[Peer] = []
        refusal: EngineError | None = None
        last: tw.Piece | None = None
        while last is None:
            with self._peers.chosen(blocks, tried) as peer:
                if peer is None:
                    raise refusal or self._none_is_ready()
                output = False
                try:
                    for piece in self._run_on(peer, job, prompt, limit):
                        if piece.done is not None:
                            last = piece
                            continue
                        if not output and (piece.text or piece.logprobs):
                            output = True
                            self._peers.answers(peer)
                        yield piece
                except EngineError as error:
                    if error.status in _FAULTS:
                        raise _refused(job, error) from error
                    self._peers.failed(peer, error)
                    if output:
                        raise tw.RunnerError(f"the reply broke off: {error}") from error
                    refusal = error
                    tried.append(peer)
        # After the server's lane is counted as free: the next turn of the chat may come at once.
        yield last

    def _run_on(self, peer: Peer, job: tw.Job, prompt: Sequence[int], limit: int) -> Iterator[tw.Piece]:
        engine, listing, runs = peer.engine, peer.listing, peer.runs
        if engine is None or listing is None:
            raise EngineError(peer.reason)
        text = TextAssembler(job.stop + job.ends)  # Engines differ in where they end the text.
        usage: dict[str, Any] = {}
        reason, count = "", 0
        started = first = time.monotonic_ns()
        body = engine.body(listing, job, prompt, limit)
        http = peer.server.connect(runs)
        with closing(http.events("/v1/completions", body, job.cancel)) as events:
            for event in events:
                usage = event.get("usage") or usage
                for choice in event.get("choices", ()):
                    first = first if count else time.monotonic_ns()
                    count += 1
                    reason = choice.get("finish_reason") or reason
                    yield tw.Piece(text.feed(choice["text"].encode()), _logprobs(choice, job.logprobs))
                if text.stopped or self.runs.ended(job.cancel):
                    break
        if self.runs.ended(job.cancel):
            done = tw.DoneReason.CANCELLED
        elif text.stopped or reason not in ("", "length"):
            done = tw.DoneReason.STOP
        elif reason:
            done = tw.DoneReason.LENGTH
        else:
            raise EngineError(f"the response of the engine at {peer.server.url} ended early")
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        output = usage.get("completion_tokens") or count
        figures = tw.Usage(len(prompt), cached, first - started, output, time.monotonic_ns() - first)
        yield tw.Piece(text.finish(), done=done, usage=figures)

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[tw.Embedding]:
        """Return one embedding for each input, from one of the servers."""
        counts = [len(self.tokenize(text)) for text in inputs]
        for index, count in enumerate(counts):
            if count > self.context_length:
                raise tw.PromptTooLong(count, self.context_length, index)
        if not counts:
            return []
        tried: list[Peer] = []
        refusal: EngineError | None = None
        while True:
            with self._peers.chosen((), tried) as peer:
                if peer is None or peer.listing is None:
                    raise refusal or self._none_is_ready()
                body = {"model": peer.listing.id, "input": list(inputs)}
                try:
                    data = peer.server.connect(peer.runs).ask("/v1/embeddings", body, cancel)["data"]
                    break
                except EngineError as error:
                    if error.status in _FAULTS or cancel.is_set():
                        raise
                    self._peers.failed(peer, error)
                    refusal = error
                    tried.append(peer)
        vectors = [one["embedding"] for one in sorted(data, key=lambda one: one["index"])]
        return [tw.Embedding(tuple(vector), count) for vector, count in zip(vectors, counts, strict=True)]

    def close(self) -> None:
        """End all jobs, and stop watching the servers."""
        super().close()
        self._peers.close()


def _refused(job: tw.Job, error: EngineError) -> tw.RunnerError:
    return tw.InvalidGrammar(str(error)) if job.grammar and "grammar" in str(error) else error


def _logprobs(choice: dict[str, Any], count: int | None) -> tuple[tw.TokenLogprob, ...]:
    """Convert log probabilities from llama-server's form, which OpenAI's API has for chats."""
    logprobs = (choice.get("logprobs") or {}).get("content") or ()
    return tuple(
        tw.TokenLogprob(_choice(one), tuple(map(_choice, one["top_logprobs"][:count]))) for one in logprobs
    )


def _choice(one: dict[str, Any]) -> tw.Choice:
    data = one.get("bytes")
    return tw.Choice(one["token"].encode() if data is None else bytes(data), one["logprob"])
