"""Small HTTP servers with fixed replies."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Handler = Callable[[str, bytes], bytes]
"""Function of the path and the body of a request that returns the bytes of the response."""


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Run a server that closes each connection after one response, and yield its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0] or "0")
        writer.write(handler(head.split(" ")[1], await reader.readexactly(length)))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def response(body: bytes, status: str = "200 OK") -> bytes:
    """Return a response with a Content-Length."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)
