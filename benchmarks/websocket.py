"""Compare WebSocket with HTTP on the same server: `python benchmarks/websocket.py --help`."""

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

from benchmarks.frames import FrameReader, check_head, handshake, request_frame
from benchmarks.server import ROOT, Unusable, install, serving
from ollama_tw.cli.bench import exchange
from ollama_tw.cli.bench.dialects import DIALECTS, Reply
from ollama_tw.cli.bench.exchange import READ_SIZE, Server, sample_of, with_errors
from ollama_tw.cli.bench.prompts import COUNT_TOKENS
from ollama_tw.cli.bench.scenarios import Ask, Load, plain
from ollama_tw.cli.bench.statistics import Sample, Summary, advantage, over_repeats, summarise

Clock = Callable[[], float]

MODEL = "bench"
DIALECT = DIALECTS["ollama"]
_ID = b'"id":'


@dataclass(frozen=True, slots=True)
class Variant:
    """Backend of a measurement: environment variables of the server, and tokens of each reply."""

    variables: dict[str, str]
    tokens: int


VARIANTS = {
    "model": Variant({"OLLAMA_CONTEXT_LENGTH": "256"}, 32),
    "transport": Variant(
        {
            "OLLAMA_CONTEXT_LENGTH": "8192",
            "OLLAMA_LLM_LIBRARY": "endless",
            # What is measured is the server.
            "OLLAMA_RUNNER": "inprocess",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks' / 'fake'}",
        },
        400,
    ),
}


class Channel:
    """A WebSocket connection and its running requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._replies: dict[int, tuple[Reply, asyncio.Future[None]]] = {}
        self._numbers = 0
        self._receiving = asyncio.ensure_future(self._receive())

    async def reply(self, body: dict[str, object]) -> Reply:
        """Send a request and return its complete reply. Raises EOFError if the connection ends before."""
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
                    # The id is the last field of a record.
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
    """Open a connection and close it at the end. Raises OSError, ValueError if the server rejects it."""
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
class Parameters:
    """Parameters common to all transports; ``pid`` is the process ID of the server."""

    url: str
    pid: int
    tokens: int
    timeout: float
    clock: Clock


Transport = Callable[[Parameters], AbstractAsyncContextManager[Ask]]


@asynccontextmanager
async def over_http(parameters: Parameters) -> AsyncIterator[Ask]:
    """Send each request on an HTTP connection of its own."""
    server = Server("HTTP", "ollama", parameters.url, MODEL)

    async def ask(
        prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
    ) -> Sample:
        return await exchange.ask(
            server, prompt, parameters.tokens, timeout=parameters.timeout, clock=parameters.clock
        )

    yield ask


async def _sample(one: Channel, prompt: str, parameters: Parameters, start: float) -> Sample:
    reply = await one.reply(DIALECT.body(MODEL, prompt, parameters.tokens))
    return sample_of(reply, start, keep_text=False)


@asynccontextmanager
async def over_connections(parameters: Parameters) -> AsyncIterator[Ask]:
    """Send each request on a WebSocket connection of its own."""

    async def alone(prompt: str) -> Sample:
        start = parameters.clock()
        async with channel(parameters.url, parameters.clock) as one:
            return await _sample(one, prompt, parameters, start)

    async def ask(
        prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
    ) -> Sample:
        return await with_errors(alone(prompt), parameters.timeout)

    yield ask


@asynccontextmanager
async def over_one_connection(parameters: Parameters) -> AsyncIterator[Ask]:
    """Send all requests on one WebSocket connection."""
    async with channel(parameters.url, parameters.clock) as shared:

        async def ask(
            prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
        ) -> Sample:
            return await with_errors(
                _sample(shared, prompt, parameters, parameters.clock()), parameters.timeout
            )

        yield ask


TRANSPORTS: dict[str, Transport] = {
    "HTTP, {} connections": over_http,
    "WebSocket, {} connections": over_connections,
    "WebSocket, 1 connection": over_one_connection,
}


@dataclass(frozen=True, slots=True)
class Pass:
    """Figures of one run of all requests, and processor time of the server in seconds per token."""

    summary: Summary
    cpu: float


async def run(
    transport: Transport, parameters: Parameters, streams: int, key: Sequence[object]
) -> tuple[Pass, list[str]]:
    """Send all requests concurrently, one per client. Return the figures and the errors."""
    load = Load(streams, 1, COUNT_TOKENS + 4, 0, 0, 0, tuple(key))
    before = _cpu(parameters.pid)
    async with transport(parameters) as ask:
        own = time.process_time()
        done = await plain(ask, load, parameters.clock)
        share = (time.process_time() - own) / done.seconds
    tokens = sum(sample.output_tokens for sample in done.samples)
    cpu = (_cpu(parameters.pid) - before) / max(tokens, 1)
    errors = [sample.error for sample in done.samples if sample.error]
    return Pass(summarise(done, client_cpu=share), cpu), errors


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def measure(
    parameters: Parameters, streams: int, repeats: int, key: Sequence[object]
) -> tuple[dict[str, list[Pass]], list[str]]:
    """Measure all transports alternately, after a warm-up. Return the repeats and the distinct errors."""
    figures: dict[str, list[Pass]] = {name.format(streams): [] for name in TRANSPORTS}
    errors: dict[str, None] = {}
    for repeat in range(-1, repeats):
        for name, transport in zip(figures, TRANSPORTS.values(), strict=True):
            found, failed = await run(transport, parameters, streams, (*key, repeat, name))
            errors.update(dict.fromkeys(f"{name}: {text}" for text in failed))
            if repeat >= 0:
                figures[name].append(found)
    return figures, list(errors)


def table(variant: str, figures: dict[str, list[Pass]]) -> str:
    """Return a Markdown table: for each transport the medians, and its tokens/s relative to HTTP."""
    http = [one.summary for one in next(iter(figures.values()))]
    lines = [
        f"| {variant} | tokens/s | of HTTP | server CPU per token | first token p50 | gap p99 | client CPU |",
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
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        description="Compare streaming over WebSocket with HTTP, on a server that this program starts."
    )
    made.add_argument("--model", type=Path, required=True, metavar="FILE", help="a GGUF file")
    made.add_argument(
        "--variant",
        choices=[*VARIANTS, "both"],
        default="both",
        help="backend: the model, or a fake one that costs little time (default: both)",
    )
    made.add_argument("--streams", type=int, default=64, help="concurrent streams (default: 64)")
    made.add_argument(
        "--tokens", type=int, help="length of each reply (default: 32 for the model, 400 for the fake)"
    )
    made.add_argument(
        "--repeats", type=int, default=5, help="repeats, alternating between the transports (default: 5)"
    )
    made.add_argument(
        "--timeout", type=float, default=300, help="time limit of a request in seconds (default: 300)"
    )
    made.add_argument("--seed", type=int, default=1, help="seed of the prompts (default: 1)")
    return made


def main(argv: Sequence[str] | None = None, *, clock: Clock = time.perf_counter) -> int:
    """Measure, print tables, and return the exit status: 1 if a request or the start of a server failed."""
    given = parser().parse_args(argv)
    complaints: list[str] = []
    for name in VARIANTS if given.variant == "both" else [given.variant]:
        variant = VARIANTS[name]
        variables = {"OLLAMA_NUM_PARALLEL": str(given.streams), **variant.variables}
        with tempfile.TemporaryDirectory() as home:
            try:
                with serving(Path(home), variables) as server:
                    install(server.url, MODEL, given.model)
                    parameters = Parameters(
                        server.url, server.pid, given.tokens or variant.tokens, given.timeout, clock
                    )
                    measured = measure(parameters, given.streams, given.repeats, (given.seed, name))
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
