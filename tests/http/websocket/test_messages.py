"""Memory of messages: one budget for those of all connections, and the bodies of HTTP requests."""

from ollama_tw.http.server.bodies import MEMORY_BYTES, NO_ROOM, BodyBudget
from tests.http.fakes import tick
from tests.http.websocket.frames import TEXT, frame, text
from tests.http.websocket.test_connection import WebSocketCase

ROOM = 200_000


def large(count: int) -> bytes:
    """Return a request that takes more than half of the room."""
    return b'{"count":%d,"pad":"%b"}' % (count, b" " * (MEMORY_BYTES + ROOM * 3 // 4))


class BudgetTests(WebSocketCase):
    limit = 1 << 20

    def setUp(self) -> None:
        super().setUp()
        self.budget = self.site.bodies = BodyBudget(ROOM)

    async def used(self, *, some: bool) -> None:
        while (self.budget.used > 0) != some:
            await tick()

    async def test_a_message_without_room_is_refused_and_the_connection_stays(self) -> None:
        first, second = await self.open(), await self.open()
        body = large(1)
        first.send(frame(TEXT, body[:-10], fin=False))
        await self.used(some=True)
        second.send(frame(TEXT, large(2)))
        self.assertEqual(await second.record(), {"status": 503, "error": NO_ROOM})
        second.send(text(count=1))
        self.assertEqual((await second.record())["n"], 1)
        first.send(frame(0, body[-10:]))
        self.assertEqual((await first.record())["n"], 1)
        await self.used(some=False)
        second.send(frame(TEXT, large(1)))
        self.assertEqual((await second.record())["n"], 1)
        await self.used(some=False)

    async def test_a_lost_connection_releases_its_unfinished_message(self) -> None:
        client = await self.open()
        client.send(frame(TEXT, large(1)[:-10], fin=False))
        await self.used(some=True)
        client.raw.transport.abortConnection()  # type: ignore[union-attr]
        await self.used(some=False)

    async def test_refused_and_queued_messages_release_their_room(self) -> None:
        client = await self.open()
        client.send(frame(TEXT, b"[" + large(1) + b"]"))
        self.assertEqual((await client.record())["status"], 400)
        await self.used(some=False)
        self.counter.gate.clear()
        client.send(text(count=1))
        client.send(frame(TEXT, large(1)))
        await self.used(some=True)
        client.raw.transport.abortConnection()  # type: ignore[union-attr]
        await self.used(some=False)
