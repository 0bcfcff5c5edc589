"""The contract suite for a runner made with the kit."""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from threading import Event

from ollama_tw.interfaces import DoneReason, Embedding, IRunner, Job, LoadPlan, Piece, PromptTooLong, Usage
from ollama_tw.support.runner import SlotRunner
from ollama_tw.support.text import TextAssembler
from ollama_tw.testing.contract import BackendContract


class Repeating(SlotRunner):
    """Repeats its prompt; a token is a byte."""

    vocabulary_size = 256

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        return list(text.encode())

    def detokenize(self, tokens: Sequence[int]) -> str:
        self.check(tokens)
        return bytes(tokens).decode()

    def run(self, job: Job, prompt: Sequence[int], limit: int) -> Iterator[Piece]:
        text = TextAssembler(job.stop + job.ends)
        done, count = DoneReason.LENGTH, 0
        for token in islice(cycle(prompt), limit):
            if self.runs.ended(job.cancel):
                done = DoneReason.CANCELLED
                break
            count += 1
            yield Piece(text.feed(bytes([token])))
            if text.stopped:
                done = DoneReason.STOP
                break
        yield Piece(text.finish(), done=done, usage=Usage(len(prompt), 0, 0, count, 0))

    def embed(self, inputs: Sequence[str], cancel: Event) -> Sequence[Embedding]:
        for index, text in enumerate(inputs):
            if len(self.tokenize(text)) > self.context_length:
                raise PromptTooLong(len(text), self.context_length, index)
        return [Embedding((float(len(text)), 1.0), len(self.tokenize(text))) for text in inputs]


class TestRepeating(BackendContract):
    grammars = False
    logprobs = False

    def make_runner(self, slots: int) -> IRunner:
        return Repeating(LoadPlan("", slots=slots, context_length=512), "repeating")


def test_default_attributes() -> None:
    runner = Repeating(LoadPlan("", slots=3, context_length=128), "repeating")
    assert (runner.slots, runner.context_length, runner.metadata) == (
        3,
        128,
        {"general.architecture": "repeating"},
    )
