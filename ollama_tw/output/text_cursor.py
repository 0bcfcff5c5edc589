"""Position in a complete text of calls, for the parsers of notations."""

import re
from collections.abc import Iterator

_SPACE = re.compile(r"\s*")


class TextCursor:
    """Position in ``text``; every method passes over white space first."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def at_end(self) -> bool:
        """Return whether nothing follows."""
        self.skip()
        return self.position == len(self.text)

    def starts(self, mark: str) -> bool:
        """Return whether ``mark`` follows."""
        self.skip()
        return self.text.startswith(mark, self.position)

    def take(self, mark: str) -> bool:
        """Pass over ``mark`` and return True, or return False if it does not follow or is empty."""
        if not self.starts(mark) or not mark:
            return False
        self.position += len(mark)
        return True

    def need(self, mark: str) -> None:
        """Pass over ``mark``. Raises ValueError if it does not follow."""
        if not self.take(mark):
            raise ValueError(f"no {mark}")

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Pass over a match of ``pattern`` and return it, or return None."""
        self.skip()
        found = pattern.match(self.text, self.position)
        if found:
            self.position = found.end()
        return found

    def items(self, close: str) -> Iterator[None]:
        """Yield where an item follows, of a sequence with commas up to ``close``; the caller reads it.

        Raises ValueError if neither a comma nor ``close`` follows an item.
        """
        while not self.take(close):
            yield
            if not self.take(","):
                self.need(close)
                return

    def skip(self) -> None:
        """Pass over white space."""
        found = _SPACE.match(self.text, self.position)
        self.position = found.end() if found else self.position
