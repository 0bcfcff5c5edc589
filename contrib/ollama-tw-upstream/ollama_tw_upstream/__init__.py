"""Serve the models of an OpenAI-compatible engine (llama-server, vLLM, SGLang) as if they were here."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

from zope.interface import implementer

from ollama_tw.interfaces import (
    DoneReason,
    Embedding,
    IRunner,
    Job,
    LoadCancelled,
    LoadError,
    LoadPlan,
    Piece,
    Progress,
    PromptTooLong,
    RemoteModel,
    RunnerError,
    Usage,
)
from ollama_tw_upstream.engine import Engine

_POLL = 0.01


def models(server: str) -> list[RemoteModel]:
    """What ``server`` serves; nothing while it cannot be reached."""
    engine = Engine(server, timeout=1)
    try:
        listed = engine.ask("/v1/models")["data"]
    except (RunnerError, KeyError, TypeError):
        return []
    try:
        template = engine.ask("/props").get("chat_template", "")  # Only llama-server tells it.
    except RunnerError:
        template = ""
    found = []
    for entry in listed:
        # llama-server's name is the path of its file.
        name = entry["id"].removesuffix(".gguf")
        name = name.rpartition("/")[2] if name.startswith("/") else name
        metadata: dict[str, str | int] = {
            "general.architecture": "remote",
            "remote.context_length": _context(entry),
            "tokenizer.chat_template": template,
        }
        found.append(RemoteModel(name, f"{server}#{entry['id']}", server, metadata))
    return found


def _context(entry: dict[str, Any]) -> int:
    meta = entry.get("meta") or {}
    return int(meta.get("n_ctx") or entry.get("max_model_len") or 0)


def load(plan: LoadPlan, progress: Progress) -> IRunner:
    server, _, model = plan.model_path.partition("#")
    if not model:
        raise LoadError("the backend upstream runs no files: it serves what another engine has")
    engine = Engine(server)
    if not progress(0.5):
        raise LoadCancelled("the load was cancelled")
    try:
        entries = [entry for entry in engine.ask("/v1/models")["data"] if entry["id"] == model]
        if not entries:
            raise LoadError(f"the engine at {server} has no model {model} any more")
        return UpstreamRunner(engine, plan, entries[0])
    except RunnerError as error:
        raise LoadError(str(error)) from error


@implementer(IRunner)
class UpstreamRunner:
    """A model in another process. The engine has slots of its own; ours bound what it is asked for."""

    size = 1  # It is not here that the memory goes.
    size_gpu = 0

    def __init__(self, engine: Engine, plan: LoadPlan, entry: dict[str, Any]) -> None:
        self._engine = engine
        self._model = entry["id"]
        self.context_length = min(plan.context_length, _context(entry) or plan.context_length)
        self.slots = plan.slots
        # llama-server makes something up for tokens that are none.
        self._vocabulary = int((entry.get("meta") or {}).get("n_vocab") or 1 << 31)
        self.metadata = {"general.architecture": "remote"}
        beginning = self.tokenize("")
        self.adds_bos = bool(beginning)
        self.bos_text = self.detokenize(beginning)
        self.eos_text = ""
        self._free = threading.Semaphore(plan.slots)
        self._closed = threading.Event()

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        # The first two are llama-server's words, the others vLLM's.
        body = {"content": text, "add_special": add_special}
        other = {"model": self._model, "prompt": text, "add_special_tokens": add_special}
        tokens: list[int] = self._engine.ask("/tokenize", {**body, **other})["tokens"]
        return tokens

    def detokenize(self, tokens: Sequence[int]) -> str:
        self._check(tokens)
        answer = self._engine.ask("/detokenize", {"model": self._model, "tokens": list(tokens)})
        return str(answer.get("content", answer.get("prompt", "")))

    def _check(self, tokens: Sequence[int]) -> None:
        if any(not 0 <= token < self._vocabulary for token in tokens):
            raise RunnerError("there is a token that is not in the model's vocabulary")

    def generate(self, job: Job) -> Iterator[Piece]:
        if job.logprobs is not None:
            raise RunnerError("this backend does not pass on log probabilities")
        prompt = self.tokenize(job.prompt) if isinstance(job.prompt, str) else list(job.prompt)
        self._check(prompt)
        if len(prompt) >= self.context_length:
            raise PromptTooLong(len(prompt), self.context_length)
        while not self._free.acquire(timeout=_POLL):
            if job.cancel.is_set() or self._closed.is_set():
                yield Piece("", done=DoneReason.CANCELLED, usage=Usage(len(prompt), 0, 0, 0, 0))
                return
        try:
            yield from self._run(job, prompt)
        finally:
            self._free.release()

    def _run(self, job: Job, prompt: Sequence[int]) -> Iterator[Piece]:
        room = self.context_length - len(prompt)
        limit = room if job.max_tokens < 0 else min(room, job.max_tokens)
        if limit == 0:
            yield Piece("", done=DoneReason.LENGTH, usage=Usage(len(prompt), 0, 0, 0, 0))
            return

        def ended() -> bool:
            return job.cancel.is_set() or self._closed.is_set()

        started = time.monotonic_ns()
        first = count = 0
        held = ""  # What may yet become a stop string, which engines cut each in their own way.
        reason = ""
        stopped = False
        usage: dict[str, Any] = {}
        body = {**_sampling(job), "model": self._model, "prompt": list(prompt), "max_tokens": limit}
        with closing(self._engine.stream("/v1/completions", body, ended)) as events:
            for event in events:
                for choice in event.get("choices", ()):
                    reason = choice.get("finish_reason") or reason
                    if choice["text"]:
                        first = first or time.monotonic_ns()
                        count += 1
                    ready, held, stopped = _cut(held + choice["text"], job.stop)
                    if ready:
                        yield Piece(ready)
                    if stopped:
                        reason = "stop"
                        break
                usage = event.get("usage") or usage
                if stopped:
                    break
        if not reason and not ended():
            raise RunnerError("the engine ended its answer without a reason")
        if reason and held:
            yield Piece(held)
        now = time.monotonic_ns()
        first = first or now
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        figures = Usage(
            len(prompt), cached, first - started, usage.get("completion_tokens", count), now - first
        )
        known = {"": DoneReason.CANCELLED, "length": DoneReason.LENGTH}
        yield Piece("", done=known.get(reason, DoneReason.STOP), usage=figures)

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        if not inputs:
            return []
        counts = [len(self.tokenize(text)) for text in inputs]
        for count in counts:
            if count > self.context_length:
                raise PromptTooLong(count, self.context_length)
        data = self._engine.ask("/v1/embeddings", {"model": self._model, "input": list(inputs)})["data"]
        vectors = [one["embedding"] for one in sorted(data, key=lambda one: one["index"])]
        return [Embedding(tuple(vector), count) for vector, count in zip(vectors, counts, strict=True)]

    def close(self) -> None:
        """End what runs; the memory is the engine's."""
        self._closed.set()
        self._engine.close()


def _sampling(job: Job) -> dict[str, Any]:
    options = {name: value for name, value in asdict(job.sampling).items() if name != "seed"}
    options["repetition_penalty"] = job.sampling.repeat_penalty
    if job.sampling.seed >= 0:
        options["seed"] = job.sampling.seed
    if job.grammar:
        options["grammar"] = job.grammar
    return {**options, "stream": True, "stream_options": {"include_usage": True}}


def _cut(text: str, stops: Sequence[str]) -> tuple[str, str, bool]:
    """What of ``text`` can go out, what may be the beginning of a stop string, and whether one is whole."""
    ends = [text.index(stop) for stop in stops if stop in text]
    if ends:
        return text[: min(ends)], "", True
    kept = max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
    return text[: len(text) - kept], text[len(text) - kept :], False
