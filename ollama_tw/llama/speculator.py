"""Drafts for the sequences of a model, and the measurements that decide on them.

Used on the decode thread, except for the methods that are marked.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.forced import ForcedReader, ForcedText
from ollama_tw.grammar.reader import read_grammar
from ollama_tw.interfaces import Job, LoadPlan
from ollama_tw.llama.draft_model import DraftModel, Request
from ollama_tw.llama.drafter import Drafter
from ollama_tw.llama.model import LlamaModel
from ollama_tw.llama.sequence import RunningSequence, RunParams
from ollama_tw.llama.speculation import (
    MOST_DRAFTED,
    MOST_SEQUENCES,
    Acceptance,
    Offer,
    lengths,
    modelled_length,
)
from ollama_tw.llama.step_costs import StepCosts
from ollama_tw.llama.vocabulary import LlamaVocabulary

# Acceptance with which a copied or forced token needs no draft of the draft model.
_GOOD = 0.8

# Length of the first draft of the draft model, and steps after which it is tried again if it did not pay.
_FIRST_DRAFT = 4
_PAUSE = 256

# Grammars whose places are kept.
_GRAMMARS = 16


class Speculator:
    """Drafts for a model with this vocabulary and these ``costs``, none unless ``enabled``."""

    def __init__(self, vocabulary: LlamaVocabulary, costs: StepCosts, *, enabled: bool) -> None:
        self._ends = vocabulary.ends_generation
        self._enabled = enabled
        self._grammars: OrderedDict[str, ForcedText] = OrderedDict()
        self._lock = threading.Lock()
        self._draft_model: DraftModel | None = None
        self._steps_without = 0
        """Steps since the draft model has drafted."""
        self._costs = costs
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
        # The last row may reach the limit, or the end of the context, but none before it.
        left = [
            min(
                most,
                sequence.params.limit - sequence.generated - 1,
                context_length - len(sequence.slot.tokens) - 2,
            )
            for sequence in sequences
        ]
        offers = [
            self._offer(sequence.drafter, sequence, room)
            for sequence, room in zip(sequences, left, strict=True)
        ]
        if self._draft_model is not None:
            self._ask_model(self._draft_model, sequences, offers, left, most)
        counts = lengths(offers, self._costs, most)
        return [
            sequence.drafter.take(count) if sequence.drafter and count else []
            for sequence, count in zip(sequences, counts, strict=True)
        ]

    def _offer(self, drafter: Drafter | None, sequence: RunningSequence, most: int) -> Offer | None:
        if drafter is None:
            return None
        return drafter.offer(most, *sequence.sampler.expected())

    def _ask_model(
        self,
        model: DraftModel,
        sequences: Sequence[RunningSequence],
        offers: list[Offer | None],
        left: Sequence[int],
        most: int,
    ) -> None:
        """Replace missing and poor offers by drafts of the draft model, if these pay."""
        drafters = {
            index: sequence.drafter
            for index, (sequence, offer) in enumerate(zip(sequences, offers, strict=True))
            if sequence.drafter and left[index] > 0 and (offer is None or offer.probabilities[0] < _GOOD)
        }
        if self._steps_without >= _PAUSE:
            # What did not pay may pay now, or the machine was busy when it was measured.
            model.seconds, self._steps_without = None, 0
        seconds = model.seconds
        length = (
            _FIRST_DRAFT
            if seconds is None
            else modelled_length(
                len(sequences), len(drafters), self._acceptance.of_modelled(), seconds, self._costs, most
            )
        )
        self._steps_without = 0 if length else self._steps_without + 1
        if not length:
            return
        requests = [
            Request(
                sequences[index].slot,
                [*sequences[index].slot.tokens, sequences[index].next_token],
                min(length, left[index], drafter.most),
            )
            for index, drafter in drafters.items()
        ]
        for (index, drafter), found in zip(drafters.items(), model.draft(requests), strict=True):
            if found.tokens:
                offers[index] = drafter.offer_modelled(found.tokens, found.confidences)

    def load_draft_model(self, model: LlamaModel, plan: LoadPlan) -> None:
        """Draft with ``model`` too. Raises :class:`LoadError`."""
        if self._enabled:
            self._draft_model = DraftModel(model, plan)

    def close(self) -> None:
        """Free the context of the draft model."""
        if self._draft_model is not None:
            self._draft_model.close()
