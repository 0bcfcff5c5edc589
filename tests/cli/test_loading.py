"""A session with an API key that may run models, but not load them for their own sake."""

from collections.abc import Iterator
from typing import Any

import pytest

from ollama_tw.cli.loading import load_if_allowed
from ollama_tw.errors import OllamaError


class Refusing:
    """A client whose requests fail with ``status``."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.sent: list[tuple[str, Any]] = []

    def stream(self, path: str, body: Any) -> Iterator[Any]:
        self.sent.append((path, body))
        raise OllamaError(self.status, "refused")


def test_a_key_that_may_not_load_models_can_hold_a_session() -> None:
    client: Any = Refusing(403)
    load_if_allowed(client, "m", keep_alive="1h")
    assert client.sent == [("/api/generate", {"model": "m", "keep_alive": "1h"})]


def test_other_failures_are_raised() -> None:
    client: Any = Refusing(401)
    with pytest.raises(OllamaError, match="refused"):
        load_if_allowed(client, "m")
