"""Tokens that begin with other tokens: where a grammar rejects a token, it rejects all that begin with it.

A grammar is therefore applied to short tokens first, and only to those longer ones whose beginning it allows.
At most places of a JSON text it allows few characters, so that a small part of the vocabulary is left.
"""

import codecs
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from ollama_tw.interfaces import RunnerError

Tokens = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

_DEEPEST = 3
"""Steps but the last one; longer chains of tokens, such as those of white space, are cut off there."""


class Prefixes:
    """Order in which the tokens of a vocabulary are tried. ``texts`` are theirs, by their number.

    Tokens for which ``apart`` is true are tried by themselves, as are those that begin within a character:
    whether a grammar allows them does not follow from other tokens. Immutable.
    """

    def __init__(self, texts: Sequence[bytes], apart: Sequence[bool]) -> None:
        self._size = len(texts)
        steps: list[tuple[list[int], list[int]]] = [([], []) for _ in range(_DEEPEST + 1)]
        # The tokens, shortest first, that the text of the current one begins with.
        chain: list[int] = []
        for token in sorted(range(len(texts)), key=texts.__getitem__):
            text = texts[token]
            if not _begins_text(text) or apart[token]:
                _add(steps[0], token, self._size)
                continue
            while chain and not text.startswith(texts[chain[-1]]):
                chain.pop()
            depth = min(len(chain), _DEEPEST)
            _add(steps[depth], token, chain[depth - 1] if depth else self._size)
            chain.append(token)
        self._steps = [
            (np.array(tokens, dtype=np.int32), np.array(prefixes, dtype=np.int32))
            for tokens, prefixes in steps
        ]

    def allowed(self, apply: Callable[[Tokens], Mask]) -> Tokens:
        """Return the tokens that a grammar allows; ``apply`` returns which ones of some it does."""
        found = np.zeros(self._size + 1, dtype=np.bool_)
        # What the tokens of the first step begin with: the empty text.
        found[self._size] = True
        for tokens, prefixes in self._steps:
            tried = tokens[found[prefixes]]
            if len(tried):
                found[tried] = apply(tried)
        return np.flatnonzero(found[: self._size]).astype(np.int32)


def _begins_text(text: bytes) -> bool:
    """Return whether a text in UTF-8 may begin with ``text``, which may end within a character."""
    try:
        codecs.utf_8_decode(text)
    except UnicodeDecodeError:
        return False
    return bool(text)


def _add(step: tuple[list[int], list[int]], token: int, prefix: int) -> None:
    step[0].append(token)
    step[1].append(prefix)


def build(read: Callable[[], tuple[Sequence[bytes], Sequence[bool]]]) -> "Future[Prefixes]":
    """Build on a thread of its own, since it takes up to a second.

    ``read`` returns the texts of the tokens and which ones are tried apart; it may raise RunnerError.
    """
    future: Future[Prefixes] = Future()

    def work() -> None:
        try:
            future.set_result(Prefixes(*read()))
        except RunnerError as error:
            # The model was unloaded.
            future.set_exception(error)

    threading.Thread(target=work, name="prefixes", daemon=True).start()
    return future
