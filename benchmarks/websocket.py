"""Compare WebSocket with HTTP on one and the same server: `python benchmarks/websocket.py --help`."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import psutil

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import exchange
from benchmarks.dialects import DIALECTS, Reply
from benchmarks.exchange import READ_SIZE, Server, sample_of, told
from benchmarks.frames import FrameReader, check_head, handshake, request_frame
from benchmarks.measure import Sample, Summary, advantage, over_repeats, summarise
from benchmarks.prompts import COUNT_TOKENS
from benchmarks.scenarios import Ask, Load, plain
from benchmarks.soak_server import ROOT, Unusable, install, serving

Clock = Callable[[], float]

MODEL = "bench"
DIALECT = DIALECTS["ollama"]
_ID = b'"id":'


@dataclass(frozen=True, slots=True)
class Variant:
    """What answers: the variables of the server's environment, and the tokens of each reply."""

    variables: dict[str, str]
    tokens: int


VARIANTS = {
    "model": Variant({"OLLAMA_CONTEXT_LENGTH": "256"}, 32),
    "transport": Variant(
        {
            "OLLAMA_CONTEXT_LENGTH": "8192",
            "OLLAMA_LLM_LIBRARY": "endless",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks' / 'fake'}",
        },
        400,
    ),
}


class Channel:
    """One WebSocket connection to the endpoint, and the replies under way on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._replies: dict[int, tuple[Reply, asyncio.Future[None]]] = {}
        self._numbers = 0
        self._receiving = asyncio.ensure_future(self._receive())

    async def reply(self, body: dict[str, object]) -> Reply:
        """Send a request; its whole reply. Raises EOFError where the connection ends before."""
        self._numbers += 1
        number = self._numbers
        reply = Reply(DIALECT)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply, ended
        self._writer.write(request_frame({**body, "id": number}))
        await ended
        return reply

    async def _receive(self) -> None:
        frames = FrameReader()
        failure: Exception = EOFError("the connection ended before a reply")
        try:
            while data := await self._reader.read(READ_SIZE):
                records = frames.feed(data)
                now = self._clock()
                for record in records:
                    # The server puts the id last.
                    reply, ended = self._replies[int(record[record.rindex(_ID) + len(_ID) : -1])]
                    reply.take((record,), now)
                    if b'"done":true' in record or b'"error":' in record:
                        ended.set_result(None)
        except (OSError, EOFError, ValueError) as error:
            failure = error
        for _, ended in self._replies.values():
            if not ended.done():
                ended.set_exception(failure)

    async def close(self) -> None:
        self._receiving.cancel()
        await asyncio.wait([self._receiving])
        self._writer.close()


@asynccontextmanager
async def channel(url: str, clock: Clock) -> AsyncIterator[Channel]:
    """A connection, closed at the end. Raises OSError, ValueError where the server refuses."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(handshake(url, DIALECT.path))
    check_head(await reader.readuntil(b"\r\n\r\n"))
    opened = Channel(reader, writer, clock)
    try:
        yield opened
    finally:
        await opened.close()


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same however it is sent; ``pid`` is the server's."""

    url: str
    pid: int
    tokens: int
    timeout: float
    clock: Clock


Way = Callable[[Terms], AbstractAsyncContextManager[Ask]]


@asynccontextmanager
async def over_http(terms: Terms) -> AsyncIterator[Ask]:
    """A connection for each request."""
    server = Server("HTTP", "ollama", terms.url, MODEL)

    async def ask(
        prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
    ) -> Sample:
        return await exchange.ask(server, prompt, terms.tokens, timeout=terms.timeout, clock=terms.clock)

    yield ask


async def _sample(one: Channel, prompt: str, terms: Terms, start: float) -> Sample:
    reply = await one.reply(DIALECT.body(MODEL, prompt, terms.tokens))
    return sample_of(reply, start, keep_text=False)


@asynccontextmanager
async def over_connections(terms: Terms) -> AsyncIterator[Ask]:
    """A WebSocket connection for each request."""

    async def alone(prompt: str) -> Sample:
        start = terms.clock()
        async with channel(terms.url, terms.clock) as one:
            return await _sample(one, prompt, terms, start)

    async def ask(
        prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
    ) -> Sample:
        return await told(alone(prompt), terms.timeout)

    yield ask


@asynccontextmanager
async def over_one_connection(terms: Terms) -> AsyncIterator[Ask]:
    """One WebSocket connection for all requests."""
    async with channel(terms.url, terms.clock) as shared:

        async def ask(
            prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
        ) -> Sample:
            return await told(_sample(shared, prompt, terms, terms.clock()), terms.timeout)

        yield ask


WAYS: dict[str, Way] = {
    "HTTP, {} connections": over_http,
    "WebSocket, {} connections": over_connections,
    "WebSocket, 1 connection": over_one_connection,
}


@dataclass(frozen=True, slots=True)
class Pass:
    """All requests once: the clients' figures, and the processor time of the server in seconds a token."""

    summary: Summary
    cpu: float


async def run(way: Way, terms: Terms, streams: int, key: Sequence[object]) -> tuple[Pass, list[str]]:
    """All requests at once, one each; and the errors."""
    load = Load(streams, 1, COUNT_TOKENS + 4, 0, 0, 0, tuple(key))
    before = _cpu(terms.pid)
    async with way(terms) as ask:
        own = time.process_time()
        done = await plain(ask, load, terms.clock)
        share = (time.process_time() - own) / done.seconds
    tokens = sum(sample.output_tokens for sample in done.samples)
    cpu = (_cpu(terms.pid) - before) / max(tokens, 1)
    errors = [sample.error for sample in done.samples if sample.error]
    return Pass(summarise(done, client_cpu=share), cpu), errors


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def measure(
    terms: Terms, streams: int, repeats: int, key: Sequence[object]
) -> tuple[dict[str, list[Pass]], list[str]]:
    """The repeats of each way, turn about, after one that only warms up; and the distinct errors."""
    figures: dict[str, list[Pass]] = {name.format(streams): [] for name in WAYS}
    errors: dict[str, None] = {}
    for repeat in range(-1, repeats):
        for name, way in zip(figures, WAYS.values(), strict=True):
            found, failed = await run(way, terms, streams, (*key, repeat, name))
            errors.update(dict.fromkeys(f"{name}: {text}" for text in failed))
            if repeat >= 0:
                figures[name].append(found)
    return figures, list(errors)


def table(variant: str, figures: dict[str, list[Pass]]) -> str:
    """A line for each way, in Markdown: its medians, and its tokens/s as a share of HTTP's."""
    http = [one.summary for one in next(iter(figures.values()))]
    lines = [
        f"| {variant} | tokens/s | of HTTP | server CPU a token | first token p50 | gap p99 | client CPU |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, repeats in figures.items():
        summaries = [one.summary for one in repeats]
        total = over_repeats(summaries)
        cells = (
            _cell(total.tokens_per_second, "{:,.0f}"),
            _cell(advantage(summaries, http).tokens_per_second, "{:.2f}"),
            _cell(median(one.cpu for one in repeats), "{:,.0f} µs", 1e6),
            _cell(total.first_p50, "{:,.0f} ms", 1000),
            _cell(total.gap_p99, "{:,.1f} ms", 1000),
            _cell(total.client_cpu, "{:.0f} %", 100),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None, form: str, factor: float = 1) -> str:
    return "–" if value is None else form.format(value * factor)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description="Compare streaming over WebSocket with HTTP. Starts a server of its own."
    )
    made.add_argument("--model", type=Path, required=True, metavar="FILE", help="a GGUF file")
    made.add_argument(
        "--variant",
        choices=[*VARIANTS, "both"],
        default="both",
        help="who answers: the model, or a fake one, as fast as Python can (default: both)",
    )
    made.add_argument("--streams", type=int, default=64, help="at the same time (default: 64)")
    made.add_argument("--tokens", type=int, help="of each reply (default: 32 of a model, 400 of the fake)")
    made.add_argument("--repeats", type=int, default=5, help="turn about (default: 5)")
    made.add_argument("--timeout", type=float, default=300, help="seconds for a request (default: 300)")
    made.add_argument("--seed", type=int, default=1, help="of the prompts (default: 1)")
    return made


def main(argv: Sequence[str] | None = None, *, clock: Clock = time.perf_counter) -> int:
    """Measure and print; 1 when a request failed or no server came up."""
    given = parser().parse_args(argv)
    complaints: list[str] = []
    for name in VARIANTS if given.variant == "both" else [given.variant]:
        variant = VARIANTS[name]
        variables = {"OLLAMA_NUM_PARALLEL": str(given.streams), **variant.variables}
        with tempfile.TemporaryDirectory() as home:
            try:
                with serving(Path(home), variables) as server:
                    install(server.url, MODEL, given.model)
                    terms = Terms(
                        server.url, server.pid, given.tokens or variant.tokens, given.timeout, clock
                    )
                    measured = measure(terms, given.streams, given.repeats, (given.seed, name))
                    figures, errors = asyncio.run(measured)
            except Unusable as reason:
                print(reason, file=sys.stderr)
                return 1
        print(table(name, figures), flush=True)
        complaints += errors
    for text in complaints:
        print(text, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
