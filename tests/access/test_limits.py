import pytest

from ollama_tw.access.attempts import FREE, Attempts
from ollama_tw.access.client import Client
from ollama_tw.access.limits import LimitReached, Limits


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def client(name: str = "alice", **limits: int) -> Client:
    return Client(name, anonymous=False, **limits)  # type: ignore[arg-type]


def test_requests_at_once() -> None:
    limits, two = Limits(Clock()), client(concurrent=2)
    limits.begin(two)
    limits.begin(two)
    limits.begin(client("bob", concurrent=1))
    with pytest.raises(LimitReached, match="the API key alice may run 2 requests at once") as reached:
        limits.begin(two)
    assert reached.value.retry_after == 1
    limits.end(two)
    limits.begin(two)


def test_a_client_without_limits() -> None:
    limits, free = Limits(Clock()), client()
    for _ in range(1000):
        limits.begin(free)
    limits.charge(free, 10**9)
    limits.begin(free)


def test_tokens_a_minute() -> None:
    clock = Clock()
    limits, alice = Limits(clock), client(tokens_per_minute=600)
    limits.begin(alice)
    limits.charge(alice, 599)
    limits.begin(alice)
    limits.charge(alice, 101)
    with pytest.raises(LimitReached, match="may use 600 tokens a minute: try again in 11 s") as reached:
        limits.begin(alice)
    assert reached.value.retry_after == 11
    clock.now += 10
    with pytest.raises(LimitReached):
        limits.begin(alice)
    clock.now += 1
    limits.begin(alice)


def test_a_budget_does_not_grow_beyond_a_minute() -> None:
    clock = Clock()
    limits, alice = Limits(clock), client(tokens_per_minute=60)
    limits.charge(alice, 1)
    clock.now += 3600
    limits.charge(alice, 60)
    with pytest.raises(LimitReached):
        limits.begin(alice)


def test_budgets_are_separate() -> None:
    limits = Limits(Clock())
    limits.charge(client(tokens_per_minute=5), 100)
    limits.begin(client("bob", tokens_per_minute=5))


def test_failed_attempts_become_slower_and_are_forgotten() -> None:
    attempts = Attempts()
    delays = [attempts.failed("10.0.0.1", 0.0) for _ in range(FREE + 8)]
    assert delays == [0.0] * FREE + [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    assert attempts.failed("10.0.0.2", 0.0) == 0.0
    assert attempts.failed("10.0.0.1", 59.0) == 8.0
    assert attempts.failed("10.0.0.1", 120.0) == 0.0


def test_addresses_of_one_ipv6_network_are_one() -> None:
    attempts = Attempts()
    delays = [attempts.failed(f"2001:db8::{n:x}", 0.0) for n in range(FREE + 1)]
    assert delays[-1] > 0
    assert attempts.failed("2001:db8:0:1::1", 0.0) == 0.0
    assert attempts.failed("fe80::1%eth0", 0.0) == 0.0


def test_the_addresses_that_are_remembered_are_bounded() -> None:
    attempts = Attempts()
    for n in range(70_000):
        attempts.failed(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 0.0)
    for _ in range(FREE):
        attempts.failed("10.1.17.111", 0.0)
    assert attempts.failed("10.0.0.0", 0.0) == 0.0
    assert attempts.failed("10.1.17.111", 0.0) > 0
