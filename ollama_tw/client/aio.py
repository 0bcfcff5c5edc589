"""The client for asyncio, on the package ``websockets``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed as WebSocketClosed

from ollama_tw.client.session import SUBPROTOCOL, ConnectionClosed, Record, Session, endpoint_url


class Connection:
    """A connection to one endpoint. Made by :func:`connect`."""

    def __init__(self, websocket: ClientConnection, path: str) -> None:
        self._websocket = websocket
        self._session = Session(path)

    async def stream(self, **body: Any) -> AsyncIterator[Record]:
        """The records of one request, whose fields are ``body``. Leaving the loop early and closing
        the iterator cancels the request.

        What is not taken yet is kept without limit, so that no request can block another's records.
        Raises :class:`RequestError` and :class:`ConnectionClosed`.
        """
        records: asyncio.Queue[tuple[Record | Exception, bool]] = asyncio.Queue()
        number, frame = self._session.begin(body, lambda record, last: records.put_nowait((record, last)))
        last = False
        try:
            await self._send(frame)
            while not last:
                record, last = await records.get()
                if isinstance(record, Exception):
                    raise record
                yield record
        finally:
            cancel = self._session.cancel(number)
            if cancel is not None:
                await self._send(cancel)

    async def ask(self, **body: Any) -> Record:
        """The one record of a request with ``stream`` False. Raises what :meth:`stream` raises."""
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
                self._session.receive(message)
            reason = self._websocket.close_reason or "the server closed it"
        except WebSocketClosed as closed:
            reason = str(closed)
        finally:
            self._session.close(reason)


@asynccontextmanager
async def connect(server: str, path: str = "/api/chat", **options: Any) -> AsyncIterator[Connection]:
    """A connection to the endpoint ``path`` of ``server`` (``http://127.0.0.1:11434``).

    ``options`` are those of ``websockets.connect``. Raises what that raises: OSError,
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
