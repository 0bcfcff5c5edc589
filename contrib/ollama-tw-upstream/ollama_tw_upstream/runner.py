"""Runner of a model in another engine: prompts are sent as tokens, the output is text.

Source: llama.cpp: tools/server/README.md; the OpenAI-compatible server of vLLM.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

from ollama_tw import interfaces as tw
from ollama_tw.support.http import HTTPEngine
from ollama_tw.support.runner import SlotRunner
from ollama_tw.support.runs import Runs
from ollama_tw.support.text import TextAssembler


def properties(engine: HTTPEngine) -> dict[str, Any]:
    """Return the properties of the model, which only llama-server has; {} for other engines."""
    try:
        return dict(engine.ask("/props"))
    except tw.RunnerError:
        return {}


def context_length(entry: dict[str, Any]) -> int:
    """Return the context length in an entry of ``/v1/models`` of llama-server or vLLM, 0 if unknown."""
    return int((entry.get("meta") or {}).get("n_ctx") or entry.get("max_model_len") or 0)


class UpstreamRunner(SlotRunner):
    """A model in another engine, whose own slots are independent of the runner's."""

    def __init__(
        self, plan: tw.LoadPlan, entry: dict[str, Any], connect: Callable[[Runs], HTTPEngine]
    ) -> None:
        super().__init__(plan, "remote")
        self._engine = connect(self.runs)
        self._model = entry["id"]
        self.context_length = min(plan.context_length, context_length(entry) or plan.context_length)
        # llama-server does not reject tokens outside the vocabulary.
        self.vocabulary_size = (entry.get("meta") or {}).get("n_vocab") or self.vocabulary_size
        about = properties(self._engine)
        self.bos_text = about.get("bos_token", "")
        self.eos_text = about.get("eos_token", "")
        self.adds_bos = bool(self.tokenize(""))

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the tokens of ``text``, from the engine."""
        # The first fields are llama-server's, the others vLLM's.
        body = {"content": text, "add_special": add_special}
        other = {"model": self._model, "prompt": text, "add_special_tokens": add_special}
        return list(self._engine.ask("/tokenize", body | other)["tokens"])

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``, from the engine."""
        self.check(tokens)
        response = self._engine.ask("/detokenize", {"model": self._model, "tokens": list(tokens)})
        return str(response.get("content", response.get("prompt", "")))

    def run(self, job: tw.Job, prompt: Sequence[int], limit: int) -> Iterator[tw.Piece]:
        """Yield a piece for each event of the engine's stream."""
        text = TextAssembler(job.stop)  # Engines differ in where they end the text.
        usage: dict[str, Any] = {}
        reason, count = "", 0
        started = first = time.monotonic_ns()
        body = self._body(job, prompt, limit)
        with closing(self._engine.events("/v1/completions", body, job.cancel)) as events:
            for event in events:
                usage = event.get("usage") or usage
                for choice in event.get("choices", ()):
                    first = first if count else time.monotonic_ns()
                    count += 1
                    reason = choice.get("finish_reason") or reason
                    yield tw.Piece(text.feed(choice["text"].encode()), _logprobs(choice, job.logprobs))
                if text.stopped:
                    break
        if self.runs.ended(job.cancel):
            done = tw.DoneReason.CANCELLED
        elif text.stopped or reason not in ("", "length"):
            done = tw.DoneReason.STOP
        elif reason:
            done = tw.DoneReason.LENGTH
        else:
            raise tw.RunnerError("the response of the engine ended early")
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        output = usage.get("completion_tokens", count)
        figures = tw.Usage(len(prompt), cached, first - started, output, time.monotonic_ns() - first)
        yield tw.Piece(text.finish(), done=done, usage=figures)

    def _body(self, job: tw.Job, prompt: Sequence[int], limit: int) -> dict[str, Any]:
        body = asdict(job.sampling) | {
            "model": self._model,
            "prompt": list(prompt),
            "max_tokens": limit,
            "repetition_penalty": job.sampling.repeat_penalty,
            "seed": None if job.sampling.seed < 0 else job.sampling.seed,
            "grammar": job.grammar or None,
            "logit_bias": {str(token): bias for token, bias in job.logit_bias} or None,
            "logprobs": None if job.logprobs is None else max(job.logprobs, 1),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return {name: value for name, value in body.items() if value is not None}

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[tw.Embedding]:
        """Return one embedding for each input, from the engine."""
        counts = [len(self.tokenize(text)) for text in inputs]
        for index, count in enumerate(counts):
            if count > self.context_length:
                raise tw.PromptTooLong(count, self.context_length, index)
        body = {"model": self._model, "input": list(inputs)}
        data = self._engine.ask("/v1/embeddings", body, cancel)["data"] if counts else []
        vectors = [one["embedding"] for one in sorted(data, key=lambda one: one["index"])]
        return [tw.Embedding(tuple(vector), count) for vector, count in zip(vectors, counts, strict=True)]


def _logprobs(choice: dict[str, Any], count: int | None) -> tuple[tw.TokenLogprob, ...]:
    """Convert log probabilities from llama-server's form."""
    logprobs = (choice.get("logprobs") or {}).get("content") or ()
    return tuple(
        tw.TokenLogprob(_choice(one), tuple(map(_choice, one["top_logprobs"][:count]))) for one in logprobs
    )


def _choice(one: dict[str, Any]) -> tw.Choice:
    return tw.Choice(bytes(one["bytes"]), one["logprob"])
