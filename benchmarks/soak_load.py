"""Mixed load: requests of clients, chosen by a seeded generator, and their outcomes."""

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks.frames import FrameReader, check_head, handshake, request_frame
from ollama_tw.cli.bench.exchange import READ_SIZE, ChunkDecoder, PlainDecoder, parse_head, post_bytes
from ollama_tw.cli.bench.prompts import prompt, words

ANSWERED, CANCELLED, LOST = "answered", "cancelled", "lost"
_SMALL_BUFFER = 16384
# The server repeats it in every record, which fills the socket of a slow reader.
_PADDED_BY = 4000
_BAD = (
    ("/api/generate", b'{"model": "soak-first", "prompt": '),
    ("/api/generate", b"\xff\xfe\x00"),
    ("/api/generate", b'{"model": 5}'),
    ("/api/generate", b'{"model": "no-such-model", "prompt": "Hi"}'),
    ("/api/chat", b""),
    ("/api/chat", b'{"model": "soak-first", "messages": "Hi"}'),
    ("/api/chat", b'{"model": "soak-first", "messages": [{"role": 1}]}'),
    ("/api/chat", b"[" * 5000),
    ("/api/embed", b'{"model": "soak-first", "input": {"a": 1}}'),
    ("/api/embed", b'{"model": "no-such-model", "input": "Hi"}'),
    ("/api/show", b'{"model": "no-such-model"}'),
    ("/api/no-such-path", b"{}"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """The server under load and its models: ``first`` for completions, ``second`` for embeddings.

    A request that does not end within ``timeout`` seconds is lost.
    """

    url: str
    first: str = "soak-first"
    second: str = "soak-second"
    timeout: float = 120.0


@dataclass(slots=True)
class Tally:
    """Outcomes of the requests: counts by kind and outcome, and counts of the distinct complaints."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    complaints: Counter[str] = field(default_factory=Counter)

    def total(self, outcome: str) -> int:
        return sum(number for (_, found), number in self.counts.items() if found == outcome)


class Exchange:
    """One request on a connection of its own; an async context manager, which closes the connection."""

    def __init__(self, target: Target, path: str, body: bytes, *, small_buffer: bool = False) -> None:
        self._target = target
        self._request = post_bytes(target.url, path, body)
        self._small_buffer = small_buffer
        self.status = 0
        self.body = b""

    async def __aenter__(self) -> "Exchange":
        self._reader, self.writer = await connect(self._target.url, small_buffer=self._small_buffer)
        self.writer.write(self._request)
        return self

    async def __aexit__(self, *_: object) -> None:
        await hang_up(self.writer)

    async def read_head(self) -> None:
        head = (await self._reader.readuntil(b"\r\n\r\n"))[:-4]
        self.status, self._decoder = parse_head(head)

    async def read_some(self) -> bool:
        """Read more of the body; return False at its end. Raises EOFError if the reply is truncated."""
        decoder: ChunkDecoder | PlainDecoder = self._decoder
        if decoder.done:
            return False
        data = await self._reader.read(READ_SIZE)
        if not data:
            raise EOFError("the reply was truncated")
        self.body += decoder.feed(data)
        return True

    async def read_rest(self) -> None:
        while await self.read_some():
            pass

    async def read_all(self) -> None:
        await self.read_head()
        await self.read_rest()

    def check(self) -> None:
        """Check the reply. Raises ValueError unless it is successful and complete."""
        if self.status != 200:
            raise ValueError(f"{self.status} {self.body[:200].decode('utf-8', 'replace')}")
        last = json.loads(self.body.rstrip(b"\n").rpartition(b"\n")[2])
        if "error" in last:
            raise ValueError(str(last["error"]))
        if not last.get("done", True):
            raise ValueError("the stream ended without its last record")


async def connect(
    url: str, *, small_buffer: bool = False
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection. With a small receive buffer, data that is not read stays in the server."""
    parts = urlsplit(url)
    if not small_buffer:
        return await asyncio.open_connection(parts.hostname, parts.port)
    host = parts.hostname or ""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        await asyncio.get_running_loop().sock_connect(sock, (host, parts.port))
        return await asyncio.open_connection(sock=sock, limit=_SMALL_BUFFER)
    except BaseException:
        sock.close()
        raise


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close the connection and wait until it is closed."""
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass


class Client:
    """A client: ``await client.next()`` sends one request and counts its outcome.

    The requests and their order depend on the seed only; their times depend on the server.
    """

    def __init__(self, target: Target, seed: str, tally: Tally) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._seed = seed
        self._number = 0
        self._tally = tally
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[str]]]] = {
            "generate": (6, self._generate),
            "chat": (6, self._chat),
            "embed, other model": (2, self._embed),
            "cancelled": (7, self._cancel),
            "slow reader": (2, self._slow),
            "bad request": (5, self._bad),
            "question": (3, self._question),
            "websocket": (3, self._websocket),
        }

    async def next(self, *, swap: bool = True) -> None:
        """Send a request; without ``swap``, none that loads the other model."""
        names = [name for name in self._kinds if swap or "other model" not in name]
        name = self._random.choices(names, [self._kinds[one][0] for one in names])[0]
        self._number += 1
        try:
            async with asyncio.timeout(self._target.timeout):
                outcome = await self._kinds[name][1]()
        except TimeoutError:
            outcome = self._complain(name, f"no end after {self._target.timeout:g} s")
        except (OSError, EOFError, ValueError) as error:
            # EOFError: asyncio's IncompleteReadError is one.
            outcome = self._complain(name, str(error) or type(error).__name__)
        self._tally.counts[name, outcome] += 1

    def _complain(self, kind: str, text: str) -> str:
        self._tally.complaints[f"{kind}: {text}"] += 1
        return LOST

    # ------------------------------------------------------------------------------- requests

    def _completion(self, tokens: int, length: int, *, stream: bool, **fields: Any) -> dict[str, Any]:
        options = {"num_predict": tokens, "temperature": self._random.choice((0, 0.8)), "seed": self._number}
        text = prompt(length, self._seed, self._number)
        return {
            "model": self._target.first,
            "prompt": text,
            "raw": True,
            "stream": stream,
            "options": options,
            **fields,
        }

    async def _ask(self, path: str, body: dict[str, Any]) -> str:
        async with Exchange(self._target, path, json.dumps(body).encode()) as exchange:
            await exchange.read_all()
            exchange.check()
        return ANSWERED

    async def _generate(self) -> str:
        tokens, length = self._random.randint(1, 24), self._random.randint(21, 150)
        stream = self._random.random() < 0.6
        return await self._ask("/api/generate", self._completion(tokens, length, stream=stream))

    async def _chat(self) -> str:
        contents = (words(self._random.randint(2, 30), self._seed, self._number, turn) for turn in range(3))
        roles = ("user", "assistant", "user")
        messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        body: dict[str, Any] = {
            "model": self._target.first,
            "messages": messages[-self._random.choice((1, 3)) :],
            "stream": self._random.random() < 0.6,
            "options": {"num_predict": self._random.randint(1, 24), "seed": self._number},
        }
        if self._random.random() < 0.2:
            body["format"] = "json"
        return await self._ask("/api/chat", body)

    async def _embed(self) -> str:
        count = self._random.randint(1, 4)
        texts = [words(self._random.randint(1, 40), self._seed, self._number, one) for one in range(count)]
        return await self._ask("/api/embed", {"model": self._target.second, "input": texts})

    async def _question(self) -> str:
        if self._random.random() < 0.3:
            return await self._ask("/api/show", {"model": self._target.first})
        text = words(10, self._seed, self._number)
        return await self._ask("/api/tokenize", {"model": self._target.first, "text": text})

    async def _bad(self) -> str:
        path, body = self._random.choice(_BAD)
        async with Exchange(self._target, path, body) as exchange:
            await exchange.read_all()
            if exchange.status // 100 != 4:
                raise ValueError(f"{path} {body[:60]!r}: status {exchange.status}")
        return ANSWERED

    async def _cancel(self) -> str:
        """Disconnect while the request is queued, during prefill, or during decoding."""
        when = self._random.choice(("queued", "prefill", "decode"))
        length = self._random.randint(500, 1200) if when == "prefill" else 40
        stream = when == "decode" or self._random.random() < 0.5
        patience = self._random.uniform(0, 0.02 if when == "queued" else 1.0)
        reset = self._random.random() < 0.5
        body = self._completion(400, length, stream=stream)
        async with Exchange(self._target, "/api/generate", json.dumps(body).encode()) as exchange:
            await exchange.writer.drain()
            if when == "decode":
                await exchange.read_head()
                if not await exchange.read_some():
                    exchange.check()
                    return ANSWERED
            await asyncio.sleep(patience)
            if reset:
                linger = struct.pack("ii", 1, 0)
                exchange.writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
        return CANCELLED

    async def _slow(self) -> str:
        """Read a reply of large records, with pauses of three seconds in total."""
        body = self._completion(48, 40, stream=True, model=" " * _PADDED_BY + self._target.first)
        pause = self._random.uniform(0.1, 0.5)
        request = json.dumps(body).encode()
        async with Exchange(self._target, "/api/generate", request, small_buffer=True) as exchange:
            await exchange.read_head()
            left = 3.0
            while await exchange.read_some():
                if left > 0:
                    left -= pause
                    await asyncio.sleep(pause)
            exchange.check()
        return ANSWERED

    # ------------------------------------------------------------------------------ WebSocket

    async def _websocket(self) -> str:
        """Send two requests on one connection, and often cancel the second."""
        reader, writer = await connect(self._target.url)
        try:
            writer.write(handshake(self._target.url, "/api/generate"))
            check_head(await reader.readuntil(b"\r\n\r\n"))
            cancel = self._random.random() < 0.6
            patience = self._random.uniform(0, 0.6)
            writer.write(request_frame(self._completion(self._random.randint(1, 16), 30, stream=True, id=1)))
            writer.write(request_frame(self._completion(300 if cancel else 16, 30, stream=True, id=2)))
            if cancel:
                await asyncio.sleep(patience)
                writer.write(request_frame({"id": 2, "cancel": True}))
            await _read_both(reader)
        finally:
            await hang_up(writer)
        return CANCELLED if cancel else ANSWERED


async def _read_both(reader: asyncio.StreamReader) -> None:
    frames = FrameReader()
    running = {1, 2}
    while running:
        data = await reader.read(READ_SIZE)
        if not data:
            raise EOFError("the connection ended before a reply")
        for payload in frames.feed(data):
            record = json.loads(payload)
            if "error" in record:
                raise ValueError(str(record["error"]))
            if record.get("done"):
                running.discard(record["id"])
