"""Sampling from the rows that a step has evaluated for a sequence, and verification of drafted tokens.

Used on the decode thread only.
"""

from dataclasses import dataclass

from ollama_tw.interfaces import RunnerError
from ollama_tw.llama.context import Context, Rows
from ollama_tw.llama.sequence import Generated, RunningSequence


@dataclass(frozen=True)
class BatchPart:
    """Rows of one sequence in a batch: a chunk of its prompt, or its last token and drafted ones."""

    sequence: RunningSequence
    rows: Rows
    prompt: bool
    """True for a chunk of the prompt."""

    @property
    def drafted(self) -> int:
        """Number of drafted tokens."""
        return 0 if self.prompt else len(self.rows.tokens) - 1


@dataclass(frozen=True)
class Sampled:
    """Tokens that a step gave a sequence, and why the last one could not be sampled, if so.

    Of the rows of ``part``, which is no prompt, the first ``kept`` precede these tokens.
    """

    part: BatchPart
    generated: list[Generated]
    kept: int
    error: RunnerError | None = None


def sample(part: BatchPart, last_row: int, context: Context) -> Sampled:
    """Sample from the rows of ``part`` in order, up to the first token that differs from the drafted one.

    ``last_row`` is the index of its last row. The sampler chooses as many tokens as are generated, so that it
    has drawn as many random numbers as without a draft.
    """
    first = last_row - part.drafted
    generated: list[Generated] = []
    for index in range(part.drafted + 1):
        try:
            generated.append(_sample_row(part.sequence, first + index, context))
        except RunnerError as error:
            return Sampled(part, generated, index + 1, error)
        if index < part.drafted and generated[-1].token != part.rows.tokens[index + 1]:
            break
    return Sampled(part, generated, len(generated))


def _sample_row(sequence: RunningSequence, row: int, context: Context) -> Generated:
    token = sequence.sampler.sample(context.handle, row)
    if sequence.params.logprobs is None:
        return Generated(token)
    return Generated(token, *context.logprobs(row, token, sequence.params.logprobs))
