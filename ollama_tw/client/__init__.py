"""Clients for the server's WebSocket endpoints: many requests side by side over one connection.

``ollama_tw.client.aio`` is for asyncio (and needs the extra ``client``), ``ollama_tw.client.tx`` for
Twisted. Both speak to one endpoint per connection and give records as dictionaries::

    async with connect("http://127.0.0.1:11434", "/api/chat") as chat:
        async for record in chat.stream(model="smollm2", messages=[{"role": "user", "content": "Hi"}]):
            print(record["message"]["content"], end="")

Plain HTTP needs no client of ours: the packages ``ollama`` and ``openai`` work as they are.
"""

from ollama_tw.client.session import ConnectionClosed, RequestError

__all__ = ["ConnectionClosed", "RequestError"]
