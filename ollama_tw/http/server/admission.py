"""Interface by which the site identifies the client of a request and checks its permission."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a request that is not admitted.

    ``challenge`` is the ``WWW-Authenticate`` header, "" for none. The answer is sent after ``delay`` seconds.
    """

    status: int
    message: str
    challenge: str = ""
    retry_after: int | None = None
    delay: float = 0.0


class Admission(Protocol):
    """Identifies clients: see :class:`ollama_tw.http.gate.Gate`. Called in the reactor thread."""

    def check(self, request: Any) -> Refusal | None:
        """Identify the client of ``request``, whose head is complete; return why it is refused, if it is."""

    def check_frame(self, request: Any, path: str) -> None:
        """Check a request that came over a WebSocket connection; raises OllamaError."""

    def refuse(self, request: Any, refusal: Refusal) -> None:
        """Answer ``request`` and finish it."""

    def ended(self, request: Any) -> None:
        """Stop counting ``request``."""
