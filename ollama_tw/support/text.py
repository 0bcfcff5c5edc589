"""Incremental decoding of tokens to text: whole characters, cut before a stop string."""

import codecs
from collections.abc import Sequence


class TextAssembler:
    """Joins the bytes of tokens into text, which ends before a stop string.

    That is the first of ``stop`` to be complete, or the longest of those that are complete at the same
    byte. The beginning of a character, and text that may become a stop string, are held back until more
    bytes come or :meth:`finish` is called. Invalid UTF-8 becomes U+FFFD; a character whose end is missing
    at the end of the output is left out.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(text for text in stop if text)
        self._held = ""
        self.stop_string = ""
        """The stop string that was found."""

    @property
    def stopped(self) -> bool:
        """True after a stop string."""
        return bool(self.stop_string)

    def feed(self, data: bytes) -> str:
        """Add ``data`` and return the text that is final; sets :attr:`stopped` at a stop string."""
        return self._release(self._decoder.decode(data))

    def finish(self) -> str:
        """Return the text that was held back, at the end of the output."""
        text, self._held = self._held, ""
        return text

    def _release(self, fresh: str) -> str:
        if self.stopped:
            return ""
        text = self._held + fresh
        if not self._stop:
            return text
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            # The one that was complete first: the result is independent of how the bytes are split.
            end, start = min(found)
            self.stop_string = text[start:end]
            return text[:start]
        keep = max(self._overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Return the length of the longest prefix of ``stop`` that ``text`` ends with."""
        for length in range(min(len(text), len(stop) - 1), 0, -1):
            if text.endswith(stop[:length]):
                return length
        return 0
