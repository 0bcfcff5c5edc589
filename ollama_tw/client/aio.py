"""Client for asyncio, based on the package ``websockets``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed as WebSocketClosed

from ollama_tw.client.session import SUBPROTOCOL, ConnectionClosed, Record, RequestMultiplexer, endpoint_url


class Connection:
    """A connection to one endpoint, returned by :func:`connect`."""

    def __init__(self, websocket: ClientConnection, path: str) -> None:
        self._websocket = websocket
        self._requests = RequestMultiplexer(path)

    async def stream(self, **body: Any) -> AsyncIterator[Record]:
        """Send a request with the fields ``body`` and yield its records.

        Closing the iterator before its end cancels the request. Records that are not consumed are queued
        without limit, so that a request does not block the others. Raises :class:`RequestError` and
        :class:`ConnectionClosed`.
        """
        records: asyncio.Queue[tuple[Record | Exception, bool]] = asyncio.Queue()
        number, frame = self._requests.begin(body, lambda record, last: records.put_nowait((record, last)))
        last = False
        try:
            await self._send(frame)
            while not last:
                record, last = await records.get()
                if isinstance(record, Exception):
                    raise record
                yield record
        finally:
            cancel = self._requests.cancel(number)
            if cancel is not None:
                await self._send(cancel)

    async def ask(self, **body: Any) -> Record:
        """Send a request with ``stream`` False and return its record. Raises as :meth:`stream`."""
        async for record in self.stream(**{**body, "stream": False}):
            return record
        raise ConnectionClosed("no answer")

    async def _send(self, frame: str) -> None:
        try:
            await self._websocket.send(frame)
        except WebSocketClosed as closed:
            raise ConnectionClosed(str(closed)) from closed

    async def _receive(self) -> None:
        reason = "the client closed it"
        try:
            async for message in self._websocket:
                self._requests.receive(message)
            reason = self._websocket.close_reason or "the server closed it"
        except WebSocketClosed as closed:
            reason = str(closed)
        finally:
            self._requests.close(reason)


@asynccontextmanager
async def connect(server: str, path: str = "/api/chat", **options: Any) -> AsyncIterator[Connection]:
    """Connect to the endpoint ``path`` of ``server`` (``http://127.0.0.1:11434``).

    ``options`` are passed to ``websockets.connect``. Raises as that does: OSError,
    ``websockets.InvalidStatus``.
    """
    url = endpoint_url(server, path)
    async with connect_websocket(url, subprotocols=[SUBPROTOCOL], max_size=None, **options) as websocket:  # type: ignore[list-item]
        connection = Connection(websocket, path)
        receiving = asyncio.create_task(connection._receive())
        try:
            yield connection
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])
