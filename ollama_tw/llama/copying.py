"""Drafts that copy from the prompt and the output: what followed the last tokens where they stood before.

Pure.

Source: Saxena, "Prompt Lookup Decoding" (2023); llama.cpp: docs/speculative.md.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SHORTEST_MATCH = 2
"""Tokens that must have stood together before."""

LONGEST_MATCH = 32
"""Tokens of a match that are compared; of longer ones the latest counts."""


class Copied(NamedTuple):
    """Tokens that followed an earlier place, and the number of tokens before it that match."""

    tokens: list[int]
    match: int


class History:
    """The tokens of a sequence. ``ends`` returns for a token whether a draft stops before it.

    A draft also stops before negative tokens of 64 bits, which stand for images.
    """

    def __init__(self, tokens: Sequence[int], ends: Callable[[int], bool]) -> None:
        self._length = len(tokens)
        self._tokens: npt.NDArray[np.int64] = np.empty(max(2 * len(tokens), 256), dtype=np.int64)
        self._tokens[: self._length] = tokens
        self._ends = ends

    def append(self, token: int) -> None:
        """Add a generated token."""
        if self._length == len(self._tokens):
            self._tokens = np.concatenate((self._tokens, np.empty_like(self._tokens)))
        self._tokens[self._length] = token
        self._length += 1

    def find(self, most: int) -> Copied | None:
        """Return up to ``most`` tokens that may come next, None if the last tokens are new.

        They follow the longest match, of equally long ones the latest. A search takes about a microsecond
        for a thousand tokens.
        """
        place = self._longest_match() if most > 0 else None
        if place is None:
            return None
        end, match = place
        # The copy may run into its own beginning, as in a row of equal words.
        following = np.resize(self._tokens[end + 1 : self._length], most).tolist()
        for count, token in enumerate(following):
            if token < 0 or self._ends(token):
                following = following[:count]
                break
        return Copied(following, match) if following else None

    def _longest_match(self) -> tuple[int, int] | None:
        """Return the index of the earlier occurrence of the last token, and the length of the match."""
        last = self._length - 1
        tokens = self._tokens[: self._length]
        if last < SHORTEST_MATCH:
            return None
        # An index in ``same`` is that of the token before.
        same = (tokens[1:last] == tokens[last]) & (tokens[: last - 1] == tokens[last - 1])
        places = np.flatnonzero(same) + 1
        if not len(places):
            return None
        match = SHORTEST_MATCH
        while match < LONGEST_MATCH:
            longer = places[places >= match]
            longer = longer[tokens[longer - match] == tokens[last - match]]
            if not len(longer):
                break
            places = longer
            match += 1
        return int(places[-1]), match
