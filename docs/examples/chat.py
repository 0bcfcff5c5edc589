"""Chat in a terminal over one WebSocket connection; Ctrl-C stops a reply.

Requires: pip install websockets

python chat.py smollm2 [http://127.0.0.1:11434]
"""

import asyncio
import json
import sys

from websockets.asyncio.client import ClientConnection, connect


async def answer(websocket: ClientConnection, number: int, model: str, messages: list[dict[str, str]]) -> str:
    """Send the conversation, print the reply as it is streamed, and return it."""
    await websocket.send(json.dumps({"id": number, "model": model, "messages": messages}))
    text = ""
    try:
        async for frame in websocket:
            record = json.loads(frame)
            if record["id"] != number:
                continue
            if "error" in record:
                sys.exit(record["error"])
            print(record["message"]["content"], end="", flush=True)
            text += record["message"]["content"]
            if record["done"]:
                break
    except asyncio.CancelledError:
        if task := asyncio.current_task():
            task.uncancel()
        await websocket.send(json.dumps({"id": number, "cancel": True}))
    print()
    return text


async def main(model: str, server: str) -> None:
    messages: list[dict[str, str]] = []
    async with connect(server.replace("http", "ws", 1) + "/api/chat") as websocket:
        for number in range(1, 1000):
            try:
                question = await asyncio.to_thread(input, ">>> ")
            except EOFError:
                return
            messages.append({"role": "user", "content": question})
            text = await answer(websocket, number, model, messages)
            messages.append({"role": "assistant", "content": text})


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:11434"))
