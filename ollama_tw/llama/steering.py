"""Changes of the sampling that depend on the text generated so far.

A :class:`GrammarStart` finds the token with which a lazy grammar begins to apply; a :class:`ThinkingLimit`
ends the thinking when its budget is used up. Both get each token with the bytes of its text, in which
special tokens are written out. Used on the decode thread only.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ollama_tw.interfaces import LazyGrammar, ThinkingBudget

_WHITE_SPACE = b" \t\r\n"

# Tokens for which the end of the thinking waits for the end of a character.
_MAX_PATIENCE = 3


# In place of a token of which a part has been cut off.
_PART = -1


class Written(NamedTuple):
    """A token and the bytes of its text."""

    token: int
    text: bytes


class _Search:
    """Search for the first of several texts in a stream of tokens."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text.encode() for text in texts if text]
        self._longest = max(map(len, self._texts), default=0)
        self._recent: list[Written] = []
        """The last tokens, which may contain the beginning of a text."""
        self._size = 0

    def feed(self, written: Written) -> tuple[bytes, list[Written]] | None:
        """Add a token; return the bytes from the beginning of a text on, and the tokens that have them."""
        self._recent.append(written)
        self._size += len(written.text)
        recent = b"".join(text for _, text in self._recent)
        found = [at for text in self._texts if (at := recent.find(text)) >= 0]
        if found:
            return self._from(recent, min(found))
        while self._recent and self._size - len(self._recent[0].text) >= self._longest:
            self._size -= len(self._recent.pop(0).text)
        return None

    def _from(self, recent: bytes, start: int) -> tuple[bytes, list[Written]]:
        position = 0
        tokens = []
        for written in self._recent:
            position += len(written.text)
            if position > start:
                tokens.append(written)
        return recent[start:], tokens


class GrammarStart:
    """Search for the place where a lazy grammar begins to apply.

    ``spell`` returns the tokens of a text, None if there are none that are exactly this text.
    """

    def __init__(self, lazy: LazyGrammar, spell: Callable[[bytes], Sequence[int] | None]) -> None:
        self._spell = spell
        self._opening = lazy.opening.strip().encode() if lazy.after else b""
        self._beginning: list[Written] = []
        """The output while it may be the beginning of the opening."""
        self._after = lazy.after.encode()
        self._before = _Search([lazy.after]) if lazy.after else None
        self._triggers = _Search(lazy.triggers)

    def feed(self, written: Written) -> Sequence[int] | None:
        """Add a generated token; return the tokens that the grammar has to accept if it begins, else None.

        These are the generated tokens from the trigger's beginning on. If the trigger begins within a
        token, they are other tokens of the same text; there may be none.
        """
        if self._opening:
            return self._begin(written)
        if self._before is not None:
            found = self._before.feed(written)
            if found is None:
                return None
            self._before = None
            rest = found[0][len(self._after) :]
            written = written if rest == written.text else Written(_PART, rest)
        begun = self._triggers.feed(written)
        if begun is None:
            return None
        text, tokens = begun
        if tokens[0].token != _PART and text == b"".join(each.text for each in tokens):
            return [each.token for each in tokens]
        return self._spell(text) or ()

    def _begin(self, written: Written) -> Sequence[int] | None:
        """Decide whether the output begins with thinking; feed it again when it is known."""
        self._beginning.append(written)
        text = b"".join(each.text for each in self._beginning).lstrip(_WHITE_SPACE)
        thinks = text.startswith(self._opening)
        if not thinks:
            if self._opening.startswith(text):
                return None
            self._before = None
        self._opening = b""
        for each in self._beginning:
            # The trigger is completed by the last token at the earliest: before it, all was undecided.
            found = self.feed(each)
        return found


class ThinkingLimit:
    """Counter of the tokens of the thinking; ``closing`` are the tokens that end it."""

    def __init__(self, budget: ThinkingBudget, closing: Sequence[int]) -> None:
        self._left = budget.tokens
        self._open = budget.open.strip().encode()
        self._close = _Search([budget.close])
        self._closing = list(closing)
        self._beginning = b""
        """The output until the thinking has begun."""
        self._inside = not self._open
        self._over = False
        self._patience = _MAX_PATIENCE
        self._last = b""

    @property
    def over(self) -> bool:
        """True if the thinking has ended, or there was none: the limit has no further effect."""
        return self._over

    def forced(self) -> int | None:
        """Return the token that has to come next, None if any may."""
        if not self._inside or self._left > 0:
            return None
        if self._patience and _ends_within_a_character(self._last):
            self._patience -= 1
            return None
        token = self._closing.pop(0)
        self._over = not self._closing
        return token

    def feed(self, written: Written) -> None:
        """Count a generated token that was not forced."""
        if not self._inside:
            self._begin(written)
            return
        self._left -= 1
        self._last = (self._last + written.text)[-4:]
        self._over = self._close.feed(written) is not None

    def _begin(self, written: Written) -> None:
        self._beginning = (self._beginning + written.text).lstrip(_WHITE_SPACE)
        if self._beginning.startswith(self._open):
            self._inside = True
            rest = self._beginning[len(self._open) :]
            self._over = self._close.feed(Written(written.token, rest)) is not None
        elif not self._open.startswith(self._beginning):
            self._over = True


def _ends_within_a_character(data: bytes) -> bool:
    """Return whether the UTF-8 ``data`` ends with the beginning of a character."""
    for length in range(1, min(len(data), 3) + 1):
        byte = data[-length]
        if byte & 0xC0 != 0x80:
            return byte >= 0xC0 and length < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
    return False
