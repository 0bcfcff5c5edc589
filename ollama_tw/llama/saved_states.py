"""Saved states of sequences: lookup by prefix, and eviction.

A prompt finds the saved state with the longest prefix in common by the chained hashes of its blocks of
tokens; what the hashes find is compared token by token.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from ollama_tw.interfaces import PromptState
from ollama_tw.llama.slots import common_prefix

BLOCK = 64
"""Tokens in a block. Shorter prefixes are not found."""


MOST_STATES = 128
"""Each state has a file descriptor, of which a process has about a thousand, and a message takes 253."""


def block_hashes(tokens: Sequence[int]) -> Iterator[int]:
    """Yield for each whole block of ``tokens`` a hash of all tokens up to its end."""
    chained = 0
    for begin in range(0, len(tokens) - BLOCK + 1, BLOCK):
        chained = hash((chained, *tokens[begin : begin + BLOCK]))
        yield chained


class SavedStates:
    """States of one model, of at most ``budget`` bytes; the least recently used ones are dropped.

    ``truncatable``: a state can be cut to a prefix after it has been restored. Without it, a state serves
    only prompts that begin with all of its tokens.
    """

    def __init__(self, budget: int, *, truncatable: bool) -> None:
        self.budget = budget
        self.size = 0
        """Bytes of all states."""
        self.evictions = 0
        """Number of states that were dropped for lack of space."""
        self.truncatable = truncatable
        # From the least to the most recently used.
        self._states: OrderedDict[int, PromptState] = OrderedDict()
        self._by_block: dict[int, set[int]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[PromptState]:
        """Iterate over the states, from the least to the most recently used."""
        return iter(tuple(self._states.values()))

    def find(self, tokens: Sequence[int]) -> tuple[PromptState | None, int]:
        """Return the state with the longest usable prefix of ``tokens``, and the length of that prefix."""
        # Slices of a list and of a tuple are never equal.
        tokens = tuple(tokens)
        best, longest = None, 0
        for found in reversed(list(block_hashes(tokens))):
            for key in self._by_block.get(found, ()):
                state = self._states[key]
                length = common_prefix(state.tokens, tokens)
                if not self.truncatable and length < len(state.tokens):
                    continue
                if length > longest:
                    best, longest = state, length
            if best is not None:
                break
        return best, longest

    def covers(self, tokens: Sequence[int]) -> bool:
        """Return whether saving ``tokens`` would add nothing to the saved states."""
        state, length = self.find(tokens)
        if state is None or length < len(tokens):
            return False
        return self.truncatable or length == len(state.tokens)

    def use(self, state: PromptState) -> None:
        """Mark a state as the most recently used one, unless it was dropped meanwhile."""
        if id(state) in self._states:
            self._states.move_to_end(id(state))

    def add(self, state: PromptState) -> None:
        """Add a state, and drop those that it replaces and the least recently used ones.

        A state larger than the budget is not added.
        """
        if state.size > self.budget:
            return
        for other in self._prefixes(state.tokens):
            self.drop(other)
        key = id(state)
        self._states[key] = state
        for found in block_hashes(state.tokens):
            self._by_block.setdefault(found, set()).add(key)
        self.size += state.size
        self._shrink()

    def limit(self, budget: int) -> None:
        """Set the budget, and drop the least recently used states beyond it."""
        self.budget = budget
        self._shrink()

    def clear(self) -> None:
        """Remove all states."""
        self._states.clear()
        self._by_block.clear()
        self.size = 0

    def _shrink(self) -> None:
        while self.size > self.budget or len(self._states) > MOST_STATES:
            self.evictions += 1
            self.drop(next(iter(self._states.values())))

    def _prefixes(self, tokens: tuple[int, ...]) -> list[PromptState]:
        """Return the saved states that a state of ``tokens`` makes superfluous."""
        return [
            state
            for state in self._states.values()
            if (self.truncatable or len(state.tokens) == len(tokens))
            and tokens[: len(state.tokens)] == state.tokens
        ]

    def drop(self, state: PromptState) -> None:
        """Remove a state, unless it was removed before."""
        key = id(state)
        if self._states.pop(key, None) is None:
            return
        self.size -= state.size
        for found in block_hashes(state.tokens):
            keys = self._by_block[found]
            keys.discard(key)
            if not keys:
                del self._by_block[found]
