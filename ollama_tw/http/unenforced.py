"""Response header with the constraints of a request's schemas that the reply may violate."""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorFromThreads
from twisted.web.http import Request

HEADER = "X-Unenforced-Schema"

_MAX_LENGTH = 2000


@dataclass(frozen=True)
class UnenforcedHeader:
    """The header of one reply, a :data:`~ollama_tw.wire.native.Note`.

    What is noted after the head of the reply was sent is lost. Calls into the reactor keep their order, so
    that what a worker notes before a record precedes it.
    """

    reactor: IReactorFromThreads
    request: Request
    _texts: dict[str, None] = field(default_factory=dict)

    def __call__(self, text: str) -> None:
        """Add ``text`` to the header. Any thread."""
        self.reactor.callFromThread(self._add, text)

    def _add(self, text: str) -> None:
        self._texts[text] = None
        whole = "; ".join(self._texts).encode("ascii", "backslashreplace").decode()
        printable = "".join(one if one.isprintable() else " " for one in whole)
        self.request.setHeader(HEADER, printable[:_MAX_LENGTH])
