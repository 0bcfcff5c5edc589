"""Requests over asyncio streams, with the part of HTTP/1.1 that streamed replies need.

A complete HTTP client takes several times the processor time per piece, at the expense of the servers that it
measures.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from ollama_tw.cli.bench.dialects import DIALECTS, Reply, failure, read
from ollama_tw.cli.bench.statistics import Sample
from ollama_tw.errors import reason_of

READ_SIZE = 65536


@dataclass(frozen=True, slots=True)
class Server:
    """A server to measure: its name in the report, dialect, URL, model, and process ID if known.

    ``api_key`` is sent as a bearer token unless it is empty. ``restart`` is a shell command that restarts the
    server, and ends when it answers again.
    """

    name: str
    dialect: str
    url: str
    model: str
    pid: int | None = None
    api_key: str = field(default="", repr=False)
    restart: str = ""


class ChunkDecoder:
    """Incremental decoder of a chunked body; `done` is set after the last chunk."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Decode bytes of the body, split anywhere. Raises ValueError for an invalid chunk size."""
        self._rest += data
        content = []
        while self._rest and not self.done:
            if self._left > 2:
                piece = self._rest[: self._left - 2]
                content.append(piece)
                self._rest = self._rest[len(piece) :]
                self._left -= len(piece)
            elif self._left:
                # What is left of a chunk is the line end behind it.
                skipped = min(self._left, len(self._rest))
                self._rest = self._rest[skipped:]
                self._left -= skipped
            else:
                line, end, rest = self._rest.partition(b"\r\n")
                if not end:
                    break
                size = int(line.split(b";")[0], 16)
                self._rest = rest
                self._left = size + 2
                self.done = size == 0
        return b"".join(content)


class PlainDecoder:
    """Decoder of a body that is not chunked: `length` bytes, or up to the end of the connection if None."""

    def __init__(self, length: int | None) -> None:
        self._left = length
        self.done = length == 0

    def feed(self, data: bytes) -> bytes:
        """Return `data`, and set `done` at the end of the body."""
        if self._left is not None:
            self._left -= len(data)
            self.done = self._left <= 0
        return data


def post_bytes(url: str, path: str, body: bytes, api_key: str = "") -> bytes:
    """Return a POST request with a JSON body."""
    base = urlsplit(url)
    authorization = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
    head = (
        f"POST {base.path.rstrip('/')}{path} HTTP/1.1\r\n"
        f"Host: {base.netloc}\r\n"
        "Content-Type: application/json\r\n"
        f"{authorization}"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


def request_bytes(server: Server, prompt: str, output_tokens: int) -> bytes:
    """Return the request for a completion."""
    dialect = DIALECTS[server.dialect]
    body = json.dumps(dialect.body(server.model, prompt, output_tokens)).encode()
    return post_bytes(server.url, dialect.path, body, server.api_key)


def parse_head(head: bytes) -> tuple[int, ChunkDecoder | PlainDecoder]:
    """Return the status of a reply and the decoder of its body.

    Raises ValueError if it is not HTTP, or a redirection: following it would send the key to another address,
    and measure it, too.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not an HTTP reply: {first[:60]!r}")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    status = int(rest[:3])
    if 300 <= status < 400:
        target = headers.get("location", "another address")
        raise ValueError(f"it redirects to {target} ({status}): name the address that it leads to")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return status, ChunkDecoder()
    length = headers.get("content-length")
    return status, PlainDecoder(int(length) if length else None)


async def ask(
    server: Server,
    prompt: str,
    output_tokens: int,
    *,
    timeout: float,
    clock: Callable[[], float],
    keep_text: bool = False,
    on_first: Callable[[], None] | None = None,
) -> Sample:
    """Send a prompt and read the whole reply. A failure is reported as the sample's `error`."""
    return await with_errors(_ask(server, prompt, output_tokens, clock, keep_text, on_first), timeout)


async def with_errors(request: Awaitable[Sample], timeout: float) -> Sample:
    """Await a sample for at most `timeout` seconds. A failure is reported as the sample's `error`."""
    try:
        async with asyncio.timeout(timeout):
            return await request
    except TimeoutError:
        return Sample(error=f"no end after {timeout:g} s")
    except asyncio.IncompleteReadError:
        return Sample(error="the connection ended before a reply")
    except (OSError, EOFError, ValueError) as error:
        return Sample(error=reason_of(error) or type(error).__name__)


async def _ask(
    server: Server,
    prompt: str,
    output_tokens: int,
    clock: Callable[[], float],
    keep_text: bool,
    on_first: Callable[[], None] | None,
) -> Sample:
    dialect = DIALECTS[server.dialect]
    request = request_bytes(server, prompt, output_tokens)
    start = clock()
    reader, writer = await _connect(server.url)
    try:
        writer.write(request)
        status, decoder = parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
        if status != 200:
            raise ValueError(f"{status} {await _error_text(reader, decoder)}")
        reply = Reply(dialect)
        while not decoder.done and (data := await reader.read(READ_SIZE)):
            reply.feed(decoder.feed(data), clock())
            if on_first is not None and reply.has_text:
                on_first()
                on_first = None
    finally:
        writer.close()
    return sample_of(reply, start, keep_text=keep_text)


def sample_of(reply: Reply, start: float, *, keep_text: bool) -> Sample:
    """Return the sample of a complete reply to a request sent at `start`. Raises ValueError if it failed."""
    counts, times = reply.finish()
    return Sample(
        first=times[0] - start if times else None,
        gaps=tuple(after - before for before, after in pairwise(times)),
        output_tokens=counts.output,
        prompt_tokens=counts.prompt,
        cached_tokens=counts.cached,
        text=reply.whole_text() if keep_text else "",
    )


async def post(server: Server, path: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Post JSON and return the JSON object of the reply. Raises OSError, ValueError unless it is 200."""
    reader, writer = await _connect(server.url)
    try:
        writer.write(post_bytes(server.url, path, json.dumps(fields).encode(), server.api_key))
        status, decoder = parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
        if status != 200:
            raise ValueError(f"{status} {await _error_text(reader, decoder)}")
        pieces = []
        while not decoder.done and (data := await reader.read(READ_SIZE)):
            pieces.append(decoder.feed(data))
    finally:
        writer.close()
    return read(b"".join(pieces))


async def unload(server: Server, timeout: float) -> str | None:
    """Restart the server if a command for that is given, or unload the model; return the error, or None."""
    path, fields = DIALECTS[server.dialect].unloading(server.model)
    try:
        async with asyncio.timeout(timeout):
            if server.restart:
                process = await asyncio.create_subprocess_shell(server.restart)
                status = await process.wait()
                return f"{server.restart} ended with the status {status}" if status else None
            if not path:
                return "it cannot unload a model: add restart=COMMAND to its --url"
            await post(server, path, fields)
    except TimeoutError:
        return f"it was not ready again after {timeout:g} s"
    except (OSError, EOFError, ValueError) as error:
        return reason_of(error) or type(error).__name__
    return None


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = urlsplit(address)
    if url.scheme == "https":
        return await asyncio.open_connection(url.hostname, url.port or 443, ssl=ssl.create_default_context())
    return await asyncio.open_connection(url.hostname, url.port or 80)


async def _error_text(reader: asyncio.StreamReader, decoder: ChunkDecoder | PlainDecoder) -> str:
    body = b""
    while not decoder.done and (data := await reader.read(READ_SIZE)):
        body += decoder.feed(data)
    try:
        return failure(read(body)) or body.decode()
    except ValueError:
        return body[:200].decode("utf-8", "replace")
