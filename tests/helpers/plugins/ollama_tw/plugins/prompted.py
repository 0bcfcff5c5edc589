"""Backend whose models are scripted by their prompts.

The output is the text after the last ``SAY `` in the prompt, up to the end of its line, word by word; with
a grammar, the text after the last ``MUST ``. The word ``BREAK`` raises an error. Stop strings are
words. A token is a character.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from threading import Event
from types import MappingProxyType

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import (
    Choice,
    Device,
    DoneReason,
    Embedding,
    IBackend,
    IRunner,
    IVocabulary,
    IVocabularyReader,
    Job,
    LoadPlan,
    Piece,
    Probe,
    Progress,
    RunnerError,
    TokenLogprob,
    Usage,
)


@implementer(IVocabulary)
class Characters:
    """Vocabulary of the Unicode code points."""

    bos_text = eos_text = ""
    adds_bos = False

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        return [ord(character) for character in text]

    def detokenize(self, tokens: Sequence[int]) -> str:
        for token in tokens:
            if not 0 <= token < 0x110000:
                raise RunnerError(f"token {token} is not in this model's vocabulary")
        return "".join(map(chr, tokens))


@implementer(IRunner)
class Runner(Characters):
    size = size_gpu = 0
    metadata: Mapping[str, str] = MappingProxyType({})

    def __init__(self, plan: LoadPlan) -> None:
        self.slots = plan.slots
        self.context_length = plan.context_length

    def generate(self, job: Job) -> Iterator[Piece]:
        prompt = job.prompt if isinstance(job.prompt, str) else self.detokenize(job.prompt)
        found = re.findall(r"MUST (.*)" if job.grammar else r"SAY (.*)", prompt)
        words = re.findall(r"\S+\s*|\s+", found[-1] if found else "well then")
        if job.logit_bias:
            words = [f"{token}:{bias:g}" for token, bias in job.logit_bias]
        limit = len(words) if job.max_tokens < 0 else job.max_tokens
        stopped = ""
        for word in words[:limit]:
            if word.strip() in job.stop:
                stopped = word.strip()
                break
            if word.strip() == "BREAK":
                raise RunnerError("the engine broke")
            choice = Choice(word.encode(), -0.5)
            top = (choice,) * (job.logprobs or 0)
            yield Piece(word, () if job.logprobs is None else (TokenLogprob(choice, top),))
        done = DoneReason.STOP if stopped or limit >= len(words) else DoneReason.LENGTH
        usage = Usage(len(prompt), 7, 1, min(limit, len(words)), 1)
        yield Piece("", (), done, usage, stopped)

    def embed(self, inputs: Sequence[str], cancel: Event) -> list[Embedding]:
        raise RunnerError("this model gives no embeddings")

    def close(self) -> None:
        """Do nothing."""


@implementer(IPlugin, IBackend, IVocabularyReader)
class Backend:
    name = "prompted"
    priority = -1000

    def probe(self) -> Probe:
        return Probe((Device("none", "none", "cpu", 1 << 30, 1 << 30),))

    def load(self, plan: LoadPlan, progress: Progress) -> Runner:
        return Runner(plan)

    def read_vocabulary(self, model_path: str) -> IVocabulary:
        return IVocabulary(Characters())


backend = Backend()
