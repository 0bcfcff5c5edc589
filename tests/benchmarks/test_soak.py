"""The mixed load on a real server, and the faults that are reported."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.server import Footprint, connections, footprint
from benchmarks.soak import Result, all_slots, main
from benchmarks.soak_load import Client, Tally, Target
from tests.benchmarks.servers import response, serving
from tests.helpers import PATIENCE, ROOT
from tests.helpers.process import environment
from tests.llama.tiny_models import write_gemma2

MIB = 1 << 20
HEALTHY = Footprint(100 * MIB, 7, 12)


def faults(after: Footprint, tally: Tally | None = None, *complaints: str) -> list[str]:
    return Result(HEALTHY, after, tally or Tally(), 60.0, 0.01, complaints).faults()


def test_a_server_that_keeps_nothing_has_no_faults() -> None:
    assert faults(Footprint(113 * MIB, 7, 12)) == []


def test_memory_that_grew_is_a_fault() -> None:
    assert faults(Footprint(114 * MIB, 7, 12)) == [
        "memory grew from 100.0 to 114.0 MiB; the limit is 113.0 MiB"
    ]


def test_threads_and_file_descriptors_that_stay_are_faults() -> None:
    assert faults(Footprint(100 * MIB, 8, 12)) == ["8 threads, 7 after the warm-up"]
    assert faults(Footprint(100 * MIB, 7, 13)) == ["13 open file descriptors, 12 after the warm-up"]


def test_a_request_without_an_answer_is_a_fault() -> None:
    tally = Tally(Counter({("chat", "answered"): 5, ("chat", "lost"): 2, ("cancelled", "cancelled"): 9}))
    assert faults(HEALTHY, tally, "soak: 3 slots") == [
        "soak: 3 slots",
        "2 requests had no valid reply",
    ]


def test_what_a_process_holds_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        # Of a process that does nothing else meanwhile.
        code = (
            "import socket, sys, threading\n"
            f"print(); input(); connection = socket.create_connection({listening.getsockname()!r})\n"
            "threading.Thread(target=threading.Event().wait, daemon=True).start(); print(); input()\n"
            "connection.close(); print(); input()"
        )
        with subprocess.Popen(
            [sys.executable, "-uc", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            found = []
            for _ in range(3):
                child.stdout.readline()
                found.append((footprint(child.pid), connections(child.pid)))
                child.stdin.write(b"\n")
                child.stdin.flush()
    (before, none), (during, one), (after, again) = found
    assert (none, one, again) == (0, 1, 0)
    assert (during.fds - before.fds, during.threads - before.threads) == (1, 1)
    assert (after.fds - before.fds, after.threads - before.threads) == (0, 1)
    assert before.rss > 1_000_000


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--url", "http://127.0.0.1:1"], "--url and --pid require each other"),
        (["--url", "http://example.com:1", "--pid", "1"], "the server must be on this machine"),
    ],
)
def test_a_wrong_command_line_is_explained(
    argv: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--model", "m.gguf", *argv])
    assert text in capsys.readouterr().err


def test_a_server_that_is_not_there_is_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    assert main(["--model", str(model), "--url", "http://127.0.0.1:1", "--pid", str(os.getpid())]) == 1
    assert "POST http://127.0.0.1:1/api/blobs/sha256:" in capsys.readouterr().err


@asynccontextmanager
async def answering(reply: bytes, figures: bytes = b"") -> AsyncIterator[Target]:
    """Run a server with one reply to everything but /metrics."""

    def handle(path: str, body: bytes) -> bytes:
        return response(figures) if path == "/metrics" else reply

    async with serving(handle) as url:
        yield Target(url, timeout=PATIENCE)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (CHUNKED + b'f\r\n{"done":false}\n\r\n', "the reply was truncated"),
        (CHUNKED + b'f\r\n{"done":false}\n\r\n0\r\n\r\n', "the stream ended without its last record"),
        (CHUNKED + b'10\r\n{"error":"oops"}\r\n0\r\n\r\n', "oops"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", "500 no"),
    ],
)
def test_an_answer_that_is_none_is_a_lost_request(reply: bytes, complaint: str) -> None:
    async def ask() -> Tally:
        tally = Tally()
        async with answering(reply) as target:
            client = Client(target, "seed", tally)
            for _ in range(12):
                await client.next()
        return tally

    tally = asyncio.run(ask())
    assert tally.complaints[f"generate: {complaint}"] > 0
    assert tally.total("lost") > 0


@pytest.mark.parametrize(
    ("busy", "text"), [(4, ""), (3, "of 4 concurrent requests 3 ran concurrently")], ids=["all", "one lost"]
)
def test_a_slot_that_is_lost_is_missed(busy: int, text: str) -> None:
    async def ask() -> str:
        whole = CHUNKED + b'e\r\n{"done":true}\n\r\n0\r\n\r\n'
        async with answering(whole, b"# HELP\nollama_slots_busy %d.0\n" % busy) as target:
            return await all_slots(target, 4)

    assert asyncio.run(ask()) == text


@pytest.mark.timeout(600)
def test_half_a_minute_of_everything(smollm2_gguf: str, tmp_path: Path) -> None:
    # With this seed the clients' first requests are of all kinds, however few they get to send.
    second, figures = tmp_path / "second.gguf", tmp_path / "figures.json"
    write_gemma2(second, window=64)
    done = subprocess.run(
        (
            sys.executable, "benchmarks/soak.py", "--model", smollm2_gguf, "--second", str(second),
            "--warmup", "15", "--minutes", "0.25", "--settle", "1", "--clients", "6", "--seed", "6",
            "--json", str(figures),
        ),
        cwd=ROOT,
        env=environment(tmp_path, {"TMPDIR": str(tmp_path)}),
        capture_output=True,
        text=True,
    )  # fmt: skip
    found = json.loads(figures.read_text()) if figures.exists() else {}
    before, after = found["before"], found["after"]
    # Memory has not settled after a quarter of a minute, nor have the pools: they start a thread when all of
    # theirs are busy, of which there can be one per client. Each saved state of a prompt is a descriptor.
    unsettled = ("memory grew", f"{after['threads']} threads", f"{after['fds']} open file descriptors")
    assert [fault for fault in found["faults"] if not fault.startswith(unsettled)] == [], done.stdout
    assert after["rss"] < before["rss"] + 64 * MIB
    assert after["threads"] < before["threads"] + 6
    assert after["fds"] < before["fds"] + 6
    requests = found["requests"]
    assert min(requests[kind]["answered"] for kind in ("chat", "generate", "bad request", "question")) > 0
    assert requests["cancelled"]["cancelled"] > 0
    assert sum(outcomes.get("lost", 0) for outcomes in requests.values()) == 0
