"""Clients that are concurrent, disconnect early, or do not read."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psutil
import pytest

from tests.helpers.server import MODEL, Server, running

# All that the model was trained for: a completion without limit takes longer than anyone waits here.
LONG_CONTEXT = "8192"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, models: str) -> Iterator[Server]:
    """Start a server with one slot and a queue of one request."""
    settings = {"OLLAMA_CONTEXT_LENGTH": LONG_CONTEXT, "OLLAMA_MAX_QUEUE": "1"}
    with running(tmp_path_factory.mktemp("single"), OLLAMA_MODELS=models, **settings) as single:
        yield single


def test_a_client_that_goes_leaves_its_slot_to_the_next(single: Server) -> None:
    with single.counting(-1) as stream:
        assert stream.record() is not None
    assert single.generate("Hi", options={"num_predict": 2}).json["eval_count"] == 2
    single.wait_for(r"200 \S+ \d+B POST /api/generate \S+ \(client disconnected\)")


def test_a_client_that_goes_while_its_prompt_is_read_leaves_its_slot(single: Server) -> None:
    sock = single.socket()
    body = b'{"model":"%s","raw":true,"prompt":"%s"}' % (MODEL.encode(), b"word " * 7000)
    sock.sendall(
        b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    sock.close()
    assert single.generate("Hi", options={"num_predict": 2}).json["eval_count"] == 2
    single.wait_for(r"499 \S+ \d+B POST /api/generate \S+ \(client disconnected\)")


def test_one_waits_and_the_next_is_turned_away(single: Server) -> None:
    with ThreadPoolExecutor() as pool:
        with single.counting(-1) as stream:
            assert stream.record() is not None
            two = [pool.submit(single.generate, "Hi", options={"num_predict": 2}) for _ in range(2)]
            single.wait_for(r'"503 \S+s \d+B POST /api/generate')
        replies = sorted((one.result() for one in two), key=lambda reply: reply.status)
    answered, refused = replies
    assert (answered.status, answered.json["eval_count"]) == (200, 2)
    assert refused.status == 503
    assert refused.json == {"error": "server busy, please try again.  maximum pending requests exceeded"}
    assert int(refused.headers["Retry-After"]) > 0


def test_replies_come_side_by_side(server: Server) -> None:
    server.generate("", keep_alive="5m")
    with server.counting(-1) as one:
        assert one.record() is not None
        with server.counting(12) as other:
            *_, last = other.rest()
        assert (last["done_reason"], last["eval_count"]) == ("length", 12)
        record = one.record()
        assert record is not None
        assert record["done"] is False


def test_a_reader_that_stalls_stops_its_own_generation_alone(server: Server) -> None:
    tokens = 48
    server.counting(tokens).rest()
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    # The records repeat the name as it was sent: 24 MB in total, much more than the buffers of sockets hold.
    padded = " " * 500_000 + MODEL
    with server.counting(tokens, model=padded, receive_buffer=65536) as stalled:
        for _ in range(2):
            *_, last = server.counting(tokens).rest()
            assert last["eval_count"] == tokens
        assert process.memory_info().rss - before < 12_000_000
        reading = datetime.now(UTC)
        records = stalled.rest()
    made = [datetime.fromisoformat(record["created_at"]) for record in records]
    assert sum(time < reading for time in made) < tokens / 2
    assert records[-1]["eval_count"] == tokens
