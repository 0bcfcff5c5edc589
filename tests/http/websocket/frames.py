"""Encoding and decoding of WebSocket frames, and endpoints that answer without a model."""

import base64
import json
import struct
import threading
from dataclasses import dataclass
from typing import Any

import msgspec
from twisted.internet.threads import deferToThreadPool

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.server.replies import read_body
from ollama_tw.http.server.stream import ReplyStream, answer
from ollama_tw.wire.decode import decode
from tests.helpers import PATIENCE

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

_MASK = b"\x01\x02\x03\x04"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Return one frame of a client."""
    first = (0x80 if fin else 0) | (rsv << 4) | opcode
    size = len(payload)
    if size < 126:
        length = struct.pack("!BB", first, (0x80 if masked else 0) | size)
    elif size < 1 << 16:
        length = struct.pack("!BBH", first, (0x80 if masked else 0) | 126, size)
    else:
        length = struct.pack("!BBQ", first, (0x80 if masked else 0) | 127, size)
    if not masked:
        return length + payload
    return length + _MASK + bytes(byte ^ _MASK[index % 4] for index, byte in enumerate(payload))


def text(**fields: Any) -> bytes:
    return frame(TEXT, json.dumps(fields).encode())


@dataclass(frozen=True)
class Received:
    fin: bool
    rsv: int
    opcode: int
    payload: bytes

    @property
    def record(self) -> Any:
        assert (self.fin, self.opcode) == (True, TEXT), self
        return json.loads(self.payload)

    @property
    def close_code(self) -> int:
        assert self.opcode == CLOSE, self
        return int(struct.unpack("!H", self.payload[:2])[0])


def read_frames(data: bytes) -> tuple[list[Received], bytes]:
    """Return the complete frames of a server after the handshake, and the remaining bytes."""
    frames = []
    while len(data) >= 2:
        first, second = data[0], data[1]
        assert second < 0x80, "a server does not mask"
        size, start = second, 2
        if second == 126 and len(data) >= 4:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        elif second == 127 and len(data) >= 10:
            size, start = struct.unpack("!Q", data[2:10])[0], 10
        elif second >= 126:
            break
        if len(data) < start + size:
            break
        frames.append(Received(bool(first & 0x80), first >> 4 & 7, first & 15, data[start : start + size]))
        data = data[start + size :]
    return frames, data


def handshake(path: str = "/api/chat", *lines: str, host: str = "127.0.0.1") -> bytes:
    return "\r\n".join(
        (
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: keep-alive, Upgrade",
            "Sec-WebSocket-Key: " + base64.b64encode(b"0123456789abcdef").decode(),
            "Sec-WebSocket-Version: 13",
            *lines,
            "",
            "",
        )
    ).encode()


class Body(msgspec.Struct):
    count: int = 1
    size: int = 0
    stream: bool = True
    wait: bool = False
    fail: str = ""
    after: int = 0


class Counter:
    """An endpoint that sends ``count`` records from a thread; with ``wait``, until it is cancelled."""

    def __init__(self, reactor: Any, pool: Any) -> None:
        self._reactor = reactor
        self._pool = pool
        self.started = 0
        self.cancelled = 0
        self.emitted = 0
        self.gate = threading.Event()
        self.gate.set()

    async def serve(self, request: Any) -> None:
        body = decode(read_body(request), Body, go_type="api.Body")
        if body.fail == "broken":
            raise KeyError("/secret/path")

        async def work(stream: ReplyStream | None, cancel: threading.Event) -> Any:
            self.started += 1
            emit = None if stream is None else stream.send
            return await deferToThreadPool(self._reactor, self._pool, self._run, body, emit, cancel)

        await answer(self._reactor, request, body.stream, work)

    def _run(self, body: Body, emit: Any, cancel: threading.Event) -> Any:
        try:
            return self._count(body, emit, cancel)
        except Cancelled:
            self.cancelled += 1
            raise

    def _count(self, body: Body, emit: Any, cancel: threading.Event) -> Any:
        self.gate.wait(PATIENCE)
        if body.fail and not body.after:
            raise OllamaError(404, body.fail)
        if emit is None:
            return {"n": body.count, "done": True}
        for number in range(1, body.count + 1):
            if body.after and number > body.after:
                raise OllamaError(500, body.fail)
            emit({"n": number, "pad": "<" + "x" * body.size, "done": number == body.count and not body.wait})
            self.emitted += 1
        if body.wait:
            cancel.wait(PATIENCE)
            raise Cancelled
        return None
