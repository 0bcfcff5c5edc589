"""Multiplexing of requests."""

import json
from typing import Any

import pytest

from ollama_tw.client import ConnectionClosed, RequestError
from ollama_tw.client.session import RequestMultiplexer, endpoint_url


class Sink:
    def __init__(self) -> None:
        self.records: list[Any] = []
        self.ended = False

    def __call__(self, record: Any, last: bool) -> None:
        assert not self.ended
        self.records.append(record)
        self.ended = last


def begin(requests: RequestMultiplexer, **body: Any) -> tuple[int, Sink]:
    sink = Sink()
    number, frame = requests.begin(body, sink)
    assert json.loads(frame) == {**body, "id": number}
    return number, sink


def test_records_go_to_their_requests() -> None:
    requests = RequestMultiplexer("/api/chat")
    one, first = begin(requests, model="m")
    two, second = begin(requests, model="m")
    assert one != two
    requests.receive(json.dumps({"n": 1, "id": two}))
    requests.receive(json.dumps({"n": 2, "id": one}))
    requests.receive(json.dumps({"n": 3, "done": True, "id": one}))
    assert (first.records, first.ended) == ([{"n": 2}, {"n": 3, "done": True}], True)
    assert (second.records, second.ended) == ([{"n": 1}], False)


@pytest.mark.parametrize(
    ("path", "body", "record", "last"),
    [
        ("/api/chat", {}, {"done": False}, False),
        ("/api/chat", {}, {"done": True}, True),
        ("/api/chat", {"stream": False}, {"done": False}, True),
        ("/api/embed", {}, {"embeddings": [[1]]}, True),
        ("/api/pull", {}, {"status": "pulling manifest"}, False),
        ("/api/pull", {}, {"status": "success"}, True),
    ],
)
def test_last_records(path: str, body: dict[str, Any], record: dict[str, Any], last: bool) -> None:
    requests = RequestMultiplexer(path)
    number, sink = begin(requests, **body)
    requests.receive(json.dumps({**record, "id": number}))
    assert (sink.records, sink.ended) == ([record], last)


def test_errors_end_a_request() -> None:
    requests = RequestMultiplexer("/api/chat")
    number, sink = begin(requests)
    requests.receive(json.dumps({"id": number, "status": 404, "error": "no such model"}))
    (error,) = sink.records
    assert isinstance(error, RequestError)
    assert (error.status, error.message, sink.ended) == (404, "no such model", True)
    number, sink = begin(requests)
    requests.receive(json.dumps({"error": "broke off", "id": number}))
    assert sink.records[0].status is None


def test_a_cancelled_request_receives_no_records() -> None:
    requests = RequestMultiplexer("/api/chat")
    number, sink = begin(requests)
    assert json.loads(requests.cancel(number) or "") == {"id": number, "cancel": True}
    requests.receive(json.dumps({"done": True, "done_reason": "cancelled", "id": number}))
    assert sink.records == []
    assert requests.cancel(number) is None


def test_the_close_of_the_connection_fails_all() -> None:
    requests = RequestMultiplexer("/api/chat")
    sinks = [begin(requests)[1] for _ in range(2)]
    requests.close("going away")
    assert all(isinstance(sink.records[0], ConnectionClosed) and sink.ended for sink in sinks)


def test_urls() -> None:
    assert endpoint_url("http://h:1", "/api/chat") == "ws://h:1/api/chat"
    assert endpoint_url("https://h/base/", "/api/chat") == "wss://h/base/api/chat"
    assert endpoint_url("wss://h", "/api/chat") == "wss://h/api/chat"
    with pytest.raises(ValueError, match=r"expected http:// or https://$"):
        endpoint_url("h:11434", "/api/chat")
