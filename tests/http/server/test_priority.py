from types import SimpleNamespace

import pytest
from twisted.web.http_headers import Headers

from ollama_tw.access.client import Client
from ollama_tw.errors import OllamaError
from ollama_tw.http.server.clients import priority_of
from ollama_tw.tracking.priority import Priority

LOW, NORMAL, HIGH = Priority


def priority(own: Priority, *given: str) -> Priority:
    headers = Headers({"X-Priority": list(given)})
    return priority_of(SimpleNamespace(api_client=Client("k", priority=own), requestHeaders=headers))


@pytest.mark.parametrize(
    ("own", "given", "found"),
    [
        (NORMAL, (), NORMAL),
        (HIGH, (), HIGH),
        (NORMAL, ("low",), LOW),
        (HIGH, (" Normal ",), NORMAL),
        (NORMAL, ("high",), NORMAL),
        (LOW, ("high",), LOW),
        (HIGH, ("high", "low"), LOW),
    ],
)
def test_the_header_can_only_lower_the_priority_of_the_key(
    own: Priority, given: tuple[str, ...], found: Priority
) -> None:
    assert priority(own, *given) is found


@pytest.mark.parametrize("given", ["", "urgent", "2", "low, high"])
def test_an_unknown_priority_is_refused(given: str) -> None:
    with pytest.raises(OllamaError, match="X-Priority must be low, normal or high") as raised:
        priority(NORMAL, given)
    assert raised.value.status == 400
