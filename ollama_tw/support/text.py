"""From the bytes of tokens to text that can be sent: whole characters, and no stop string."""

import codecs
from collections.abc import Sequence


class TextAssembler:
    """Joins the bytes of tokens into text and ends it before the first of the ``stop`` strings to be
    complete, or the longest of those that are complete at once.

    Bytes that begin a character, and text that may yet become a stop string, are held back until
    more comes or :meth:`finish` is called. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(text for text in stop if text)
        self._held = ""
        self.stopped = False

    def feed(self, data: bytes) -> str:
        """The text that is certain after ``data``; sets :attr:`stopped` when a stop string is complete."""
        return self._release(self._decoder.decode(data))

    def finish(self) -> str:
        """What was held back, at the end of the output."""
        if self.stopped:
            return ""
        text = self._release(self._decoder.decode(b"", final=True))
        if not self.stopped:
            text += self._held
        self._held = ""
        return text

    def _release(self, fresh: str) -> str:
        if self.stopped:
            return ""
        text = self._held + fresh
        if not self._stop:
            return text
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            # The one that was complete first, so that the pieces' borders make no difference.
            return text[: min(found)[1]]
        keep = max(self._overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """The length of the longest beginning of ``stop`` that ``text`` ends with."""
        for length in range(min(len(text), len(stop) - 1), 0, -1):
            if text.endswith(stop[:length]):
                return length
        return 0
