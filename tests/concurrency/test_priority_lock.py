"""Order of acquisition of a lock by priority."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from ollama_tw.concurrency.priority_lock import PriorityLock


class PriorityLockTests(TestCase):
    def setUp(self) -> None:
        self.lock = PriorityLock()
        self.order: list[int] = []
        self.ends: dict[int, Deferred[None]] = {}

    def tearDown(self) -> None:
        for end in self.ends.values():
            if not end.called:
                end.callback(None)

    def acquire(self, priority: int) -> Deferred[None]:
        """Hold the lock until ``ends[priority]`` fires."""
        self.ends[priority] = Deferred()

        async def work() -> None:
            async with self.lock.hold(priority):
                self.order.append(priority)
                await self.ends[priority]

        return Deferred.fromCoroutine(work())

    def release(self, priority: int) -> None:
        self.ends[priority].callback(None)

    def test_the_lowest_number_is_next(self) -> None:
        for priority in (5, 9, 3, 7):
            self.acquire(priority)
        for priority in (5, 3, 7, 9):
            self.assertEqual(self.order[-1], priority)
            self.release(priority)
        self.acquire(1)
        self.assertEqual(self.order, [5, 3, 7, 9, 1])

    def test_extended_only_before_all_waiters(self) -> None:
        self.acquire(5)
        self.assertTrue(self.lock.extend(6))
        self.acquire(7)
        self.assertTrue(self.lock.extend(6))
        self.assertFalse(self.lock.extend(8))

    def test_no_waiter_starves(self) -> None:
        self.acquire(1)
        self.acquire(9)
        rounds = 0
        while self.lock.extend(1):
            rounds += 1
            self.assertLess(rounds, 1000)
        self.acquire(2)
        self.release(1)
        self.assertEqual(self.order, [1, 9])

    async def test_a_cancelled_waiter_is_skipped(self) -> None:
        self.acquire(1)
        cancelled = self.acquire(2)
        self.acquire(3)
        cancelled.cancel()
        await self.assertFailure(cancelled, CancelledError)
        self.release(1)
        self.assertEqual(self.order, [1, 3])
