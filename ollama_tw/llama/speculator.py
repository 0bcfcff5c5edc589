"""Drafts for the sequences of a model, and the measurements that decide on them.

Used on the decode thread, except for the methods that are marked.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.forced import ForcedReader, ForcedText
from ollama_tw.grammar.reader import read_grammar
from ollama_tw.interfaces import Job
from ollama_tw.llama.drafter import Drafter
from ollama_tw.llama.sequence import RunningSequence, RunParams
from ollama_tw.llama.speculation import MOST_DRAFTED, MOST_SEQUENCES, Acceptance, Offer, lengths
from ollama_tw.llama.step_costs import StepCosts
from ollama_tw.llama.vocabulary import LlamaVocabulary

# Grammars whose places are kept.
_GRAMMARS = 16


class Speculator:
    """Drafts for a model with this vocabulary, none unless ``enabled``."""

    def __init__(self, vocabulary: LlamaVocabulary, *, enabled: bool) -> None:
        self._ends = vocabulary.ends_generation
        self._enabled = enabled
        self._grammars: OrderedDict[str, ForcedText] = OrderedDict()
        self._lock = threading.Lock()
        self._costs = StepCosts()
        self._acceptance = Acceptance()

    def drafter(self, params: RunParams) -> Drafter | None:
        """Return what drafts for a sequence, None for no drafts. On any thread."""
        if not self._enabled or params.drafts == 0:
            return None
        return Drafter(params.prompt, self._ends, self._acceptance, params.drafts)

    def forced_reader(self, job: Job) -> ForcedReader | None:
        """Return a reader of the job's grammar, None without one. On any thread."""
        text = job.grammar or (job.lazy_grammar.grammar if job.lazy_grammar else "")
        if not text:
            return None
        with self._lock:
            if text in self._grammars:
                self._grammars.move_to_end(text)
            else:
                try:
                    self._grammars[text] = ForcedText(read_grammar(text))
                except (OllamaError, KeyError, RecursionError):
                    # llama.cpp reads it, or refuses it with the reason.
                    return None
                if len(self._grammars) > _GRAMMARS:
                    self._grammars.popitem(last=False)
            return ForcedReader(self._grammars[text])

    def drafts(
        self, sequences: Sequence[RunningSequence], context_length: int, budget: int
    ) -> list[list[int]]:
        """Return the drafted tokens to evaluate for each of ``sequences``, ``budget`` of them at most."""
        if len(sequences) > MOST_SEQUENCES:
            return [[]] * len(sequences)
        most = min(budget, MOST_DRAFTED)
        offers = []
        for sequence in sequences:
            # The last row may reach the limit, or the end of the context, but none before it.
            left = min(
                sequence.params.limit - sequence.generated - 1,
                context_length - len(sequence.slot.tokens) - 2,
            )
            offers.append(self._offer(sequence.drafter, sequence, min(most, left)))
        counts = lengths(offers, self._costs, most)
        return [
            sequence.drafter.take(count) if sequence.drafter and count else []
            for sequence, count in zip(sequences, counts, strict=True)
        ]

    def _offer(self, drafter: Drafter | None, sequence: RunningSequence, most: int) -> Offer | None:
        if drafter is None:
            return None
        return drafter.offer(most, *sequence.sampler.expected())

    def measured(self, rows: Sequence[int], seconds: float) -> None:
        """Record a step without prompts that evaluated ``rows`` tokens of each sequence."""
        self._costs.record(rows, seconds)
