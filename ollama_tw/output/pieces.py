"""State machine over text that arrives in arbitrary pieces."""

import re
from collections.abc import Callable

_SPACE = re.compile(r"\s*")


class PieceReader:
    """State machine whose states take a piece and a position and return the position they reached.

    A state that needs more text holds the rest back by :meth:`_hold`, which is put before the next
    piece. The rest is at most as long as a tag or a name, so that the cost of a text does not depend on
    the pieces.
    """

    def __init__(self, state: Callable[[str, int], int]) -> None:
        self._state = state
        self._held = ""

    def feed(self, text: str) -> None:
        """Process the next piece."""
        if self._held:
            text, self._held = self._held + text, ""
        position, end = 0, len(text)
        while position < end:
            position = self._state(text, position)

    def _hold(self, text: str, start: int) -> int:
        self._held = text[start:]
        return len(text)


def skip_space(text: str, position: int) -> int:
    """Return the first position from ``position`` on that is not white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def may_become(text: str, position: int, tag: str) -> bool:
    """Return True if ``text`` from ``position`` on is a proper prefix of ``tag``."""
    return len(text) - position < len(tag) and tag.startswith(text[position:])


def partial_tag(text: str, position: int, tag: str) -> int:
    """Return the position, from ``position`` on, of a suffix of ``text`` that may begin ``tag``.

    The end of ``text`` if there is none.
    """
    end = len(text)
    start = text.find(tag[0], max(position, end - len(tag) + 1))
    while start >= 0:
        if may_become(text, start, tag):
            return start
        start = text.find(tag[0], start + 1)
    return end
