from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from ollama_tw.concurrency.deferreds import Turns


class TurnsTests(TestCase):
    def setUp(self) -> None:
        self.turns = Turns()
        self.order: list[int] = []
        self.ends: dict[int, Deferred[None]] = {}

    def tearDown(self) -> None:
        for end in self.ends.values():
            if not end.called:
                end.callback(None)

    def want(self, rank: int) -> Deferred[None]:
        """Somebody who has the turn until ``ends[rank]`` is fired."""
        self.ends[rank] = Deferred()

        async def work() -> None:
            async with self.turns.of(rank):
                self.order.append(rank)
                await self.ends[rank]

        return Deferred.fromCoroutine(work())

    def end(self, rank: int) -> None:
        self.ends[rank].callback(None)

    def test_the_lowest_rank_is_next(self) -> None:
        for rank in (5, 9, 3, 7):
            self.want(rank)
        for rank in (5, 3, 7, 9):
            self.assertEqual(self.order[-1], rank)
            self.end(rank)
        self.want(1)
        self.assertEqual(self.order, [5, 3, 7, 9, 1])

    def test_another_turn_only_before_all_who_wait(self) -> None:
        self.want(5)
        self.assertTrue(self.turns.another(6))
        self.want(7)
        self.assertTrue(self.turns.another(6))
        self.assertFalse(self.turns.another(8))

    def test_nobody_waits_for_ever(self) -> None:
        self.want(1)
        self.want(9)
        rounds = 0
        while self.turns.another(1):
            rounds += 1
            self.assertLess(rounds, 1000)
        self.want(2)
        self.end(1)
        self.assertEqual(self.order, [1, 9])

    async def test_whoever_leaves_the_queue_is_passed_over(self) -> None:
        self.want(1)
        leaving = self.want(2)
        self.want(3)
        leaving.cancel()
        await self.assertFailure(leaving, CancelledError)
        self.end(1)
        self.assertEqual(self.order, [1, 3])
