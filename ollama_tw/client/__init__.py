"""Clients for the server's WebSocket endpoints: concurrent requests over one connection.

``ollama_tw.client.aio`` is for asyncio (requires the extra ``client``), ``ollama_tw.client.tx`` for
Twisted. A connection belongs to one endpoint and returns records as dictionaries::

    async with connect("http://127.0.0.1:11434", "/api/chat") as chat:
        async for record in chat.stream(model="smollm2", messages=[{"role": "user", "content": "Hi"}]):
            print(record["message"]["content"], end="")

For plain HTTP, use the packages ``ollama`` or ``openai``.
"""

from ollama_tw.client.session import ConnectionClosed, RequestError

__all__ = ["ConnectionClosed", "RequestError"]
