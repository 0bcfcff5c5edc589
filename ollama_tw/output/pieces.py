"""Reading text that arrives in pieces, cut anywhere."""

import re
from collections.abc import Callable

_SPACE = re.compile(r"\s*")


class PieceReader:
    """A machine whose states read a piece from a position on and answer how far they came.

    Where a state must see more to decide, it keeps the rest by :meth:`_hold`, to be read again with
    the next piece in front of it; that rest is never longer than a tag or a name, so that the cost of
    a text does not depend on how it is cut.
    """

    def __init__(self, state: Callable[[str, int], int]) -> None:
        self._state = state
        self._held = ""

    def feed(self, text: str) -> None:
        if self._held:
            text, self._held = self._held + text, ""
        position, end = 0, len(text)
        while position < end:
            position = self._state(text, position)

    def _hold(self, text: str, start: int) -> int:
        self._held = text[start:]
        return len(text)


def skip_space(text: str, position: int) -> int:
    """Where the white space that may begin at ``position`` ends."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def may_become(text: str, position: int, tag: str) -> bool:
    """Whether ``text`` ends, from ``position`` on, in a beginning of ``tag``."""
    return len(text) - position < len(tag) and tag.startswith(text[position:])


def partial_tag(text: str, position: int, tag: str) -> int:
    """Where the end of ``text`` begins, not before ``position``, that may go on to be ``tag``."""
    end = len(text)
    start = text.find(tag[0], max(position, end - len(tag) + 1))
    while start >= 0:
        if may_become(text, start, tag):
            return start
        start = text.find(tag[0], start + 1)
    return end
