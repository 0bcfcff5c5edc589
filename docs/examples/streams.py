"""Send several requests concurrently over one connection, with the client of ollama_tw.

python streams.py smollm2 [http://127.0.0.1:11434]
"""

import asyncio
import sys

from ollama_tw.client.aio import Connection, connect

QUESTIONS = ("Why is the sky blue?", "Why is the sea salty?", "Why is grass green?")


async def ask(chat: Connection, model: str, question: str) -> None:
    text = ""
    message = {"role": "user", "content": question}
    async for record in chat.stream(model=model, messages=[message], options={"num_predict": 40}):
        text += record["message"]["content"]
    print(f"{question}\n  {text.strip()}\n  ({record['eval_count']} tokens)\n")


async def main(model: str, server: str) -> None:
    async with connect(server, "/api/chat") as chat:
        await asyncio.gather(*(ask(chat, model, question) for question in QUESTIONS))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:11434"))
