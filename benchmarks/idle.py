"""Memory of a server per idle WebSocket connection: `python benchmarks/idle.py --help`."""

import argparse
import asyncio
import json
import ssl
import sys
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

if sys.platform != "win32":
    import resource

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.frames import FrameReader, check_head, client_frame, handshake
from benchmarks.server import Unusable, footprint
from ollama_tw.cli.bench.dialects import DIALECTS, failure, read
from ollama_tw.cli.bench.exchange import READ_SIZE

DIALECT = DIALECTS["ollama"]
TOKENS = 8
AT_ONCE = 16
_TAIL = b"\x00\x00\xff\xff"


@dataclass(frozen=True, slots=True)
class Idle:
    """One connection. With ``deflate``, permessage-deflate has been negotiated."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    deflate: bool

    async def exchange(self, model: str) -> None:
        """Send a request and read the whole reply. Raises EOFError, ValueError for an error."""
        body = json.dumps(DIALECT.body(model, "1 2 3 4", TOKENS)).encode()
        if self.deflate:
            compress = zlib.compressobj(wbits=-15)
            body = (compress.compress(body) + compress.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)
        self.writer.write(client_frame(body, compressed=self.deflate))
        frames, decompress = FrameReader(), zlib.decompressobj(wbits=-15)
        while data := await self.reader.read(READ_SIZE):
            for payload in frames.feed(data):
                record = read(decompress.decompress(payload + _TAIL) if self.deflate else payload)
                error = failure(record)
                if error is not None:
                    raise ValueError(error)
                if record["done"]:
                    return
        raise EOFError("the connection ended before a reply")


async def connect(url: str, *, deflate: bool) -> Idle:
    """Open a connection. Raises OSError, ValueError if the server rejects it."""
    address = urlsplit(url)
    context = None
    if address.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=context)
    lines = ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",) if deflate else ()
    writer.write(handshake(url, DIALECT.path, *lines))
    head = await reader.readuntil(b"\r\n\r\n")
    check_head(head)
    if deflate and b"permessage-deflate" not in head:
        raise ValueError("the server does not compress")
    return Idle(reader, writer, deflate)


async def in_turn(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Call ``work`` with 0 to ``count - 1``, a few at a time."""
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def measure(given: argparse.Namespace, *, deflate: bool) -> tuple[float, float]:
    """Return bytes per connection: after opening, and after one request and its reply."""
    connections: list[Idle] = []

    async def open_one(number: int) -> None:
        connections.append(await connect(given.url, deflate=deflate))

    async def use_one(number: int) -> None:
        await connections[number].exchange(given.model)

    try:
        # The same number of connections first, which stay open, so that one-time allocations and free memory
        # of the allocator do not count.
        await in_turn(given.connections, open_one)
        await in_turn(given.connections, use_one)
        before = footprint(given.pid).rss
        await in_turn(given.connections, open_one)
        opened = footprint(given.pid).rss
        await in_turn(len(connections), use_one)
        used = footprint(given.pid).rss
    finally:
        for connection in connections:
            connection.writer.transport.abort()
    return (opened - before) / given.connections, (used - before) / given.connections


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        description="Measure the memory of a server per idle WebSocket connection."
    )
    made.add_argument("--url", required=True, help="URL of the server, http:// or https://")
    made.add_argument("--pid", type=int, required=True, help="process ID of the server")
    made.add_argument("--model", required=True, help="name of a model of the server")
    made.add_argument("--connections", type=int, default=1000, help="connections to measure (default: 1000)")
    made.add_argument("--no-deflate", action="store_true", help="do not offer compression")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return the exit status: 1 if a request failed."""
    given = parser().parse_args(argv)
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        opened, used = asyncio.run(measure(given, deflate=not given.no_deflate))
    except (OSError, EOFError, ValueError, Unusable) as error:
        print(error, file=sys.stderr)
        return 1
    print("| connections | open | after a request and its reply |\n| ---: | ---: | ---: |")
    print(f"| {given.connections} | {opened / 1024:.1f} KiB | {used / 1024:.1f} KiB |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
