"""The part of WebSocket (RFC 6455) that the clients need: handshake, masked text, unfragmented frames."""

import base64
import json
import struct
from typing import Any
from urllib.parse import urlsplit

TEXT, CLOSE = 1, 8
COMPRESSED = 0x40
"""Bit of the first byte of a compressed message (RFC 7692)."""


def handshake(url: str, path: str, *lines: str) -> bytes:
    """Return the request that opens a connection; ``lines`` are additional header lines."""
    key = base64.b64encode(bytes(16)).decode()
    all_lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *lines,
    )
    return "\r\n".join((*all_lines, "", "")).encode()


def check_head(head: bytes) -> None:
    """Check the response to a handshake. Raises ValueError unless the status is 101."""
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ValueError(head.partition(b"\r\n")[0].decode("latin-1"))


def client_frame(payload: bytes, *, compressed: bool = False) -> bytes:
    """Return a masked text message. The mask is zero, so the payload is unchanged."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 1 << 16:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    first = 0x80 | TEXT | (COMPRESSED if compressed else 0)
    return bytes((first,)) + length + bytes(4) + payload


def request_frame(body: dict[str, Any]) -> bytes:
    """Return the message of a request or cancel."""
    return client_frame(json.dumps(body).encode())


class FrameReader:
    """Incremental decoder of the bytes that a server sends after the handshake."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes, split anywhere, and return the payloads of the text frames that are complete.

        Other control frames are ignored. Raises EOFError for a close frame.
        """
        data = self._rest + data
        payloads = []
        at, end = 0, len(data)
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                if end - at < 4:
                    break
                (size,) = struct.unpack_from("!H", data, at + 2)
                start = at + 4
            elif size == 127:
                if end - at < 10:
                    break
                (size,) = struct.unpack_from("!Q", data, at + 2)
                start = at + 10
            if end - start < size:
                break
            opcode = data[at] & 15
            if opcode == CLOSE:
                raise EOFError("the server closed the WebSocket")
            if opcode == TEXT:
                payloads.append(data[start : start + size])
            at = start + size
        self._rest = data[at:]
        return payloads
