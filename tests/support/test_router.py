"""Router: its choices against a plain statement of the rules, and what it remembers."""

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ollama_tw.support.router import BLOCK, Replica, Router, block_hashes

PROMPTS = st.lists(st.integers(0, 1), max_size=4).map(tuple)
"""Prompts as the blocks of a binary tree: two of them often begin alike."""


def blocks(path: Sequence[int]) -> list[int]:
    """Return hashes that depend, as real ones do, on everything before."""
    return [hash((path[:end], "block")) for end in range(1, len(path) + 1)]


class Choices(RuleBasedStateMachine):
    """Jobs, changes and removals in any order; each choice must follow the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router(draw=random.Random(0))
        self.jobs: list[Replica] = []
        # For each beginning the replicas that it was sent to, the most recent one last.
        self.sent: dict[tuple[int, ...], list[Replica]] = {}

    @rule(lanes=st.integers(1, 4), weight=st.sampled_from([1.0, 2.0]), resident=st.booleans())
    def add(self, lanes: int, weight: float, resident: bool) -> None:
        if len(self.router.replicas) < 6:
            self.router.add("one", lanes=lanes, weight=weight, resident=resident)

    @precondition(lambda self: self.router.replicas)
    @rule(
        data=st.data(),
        lanes=st.none() | st.integers(1, 4),
        resident=st.none() | st.booleans(),
        others=st.none() | st.integers(0, 4),
    )
    def change(
        self, data: st.DataObject, lanes: int | None, resident: bool | None, others: int | None
    ) -> None:
        replica = data.draw(st.sampled_from(self.router.replicas))
        self.router.update(replica, lanes=lanes, resident=resident, others=others)
        assert lanes is None or replica.lanes == lanes
        assert resident is None or replica.resident is resident
        assert others is None or replica.others == others

    @precondition(lambda self: self.router.replicas)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        replica = data.draw(st.sampled_from(self.router.replicas))
        self.router.remove(replica)
        assert replica not in self.router.replicas
        for holders in self.sent.values():
            if replica in holders:
                holders.remove(replica)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        replica = self.jobs.pop(data.draw(st.integers(0, len(self.jobs) - 1)))
        self.router.end(replica)

    @rule(path=PROMPTS, data=st.data())
    def send(self, path: tuple[int, ...], data: st.DataObject) -> None:
        replicas = self.router.replicas
        excluded = data.draw(st.sets(st.sampled_from(replicas))) if replicas else set()
        chosen = self.router.choose(blocks(path), excluded)
        allowed = self.allowed([one for one in replicas if one not in excluded], path)
        if chosen is None:
            assert not allowed
            return
        assert chosen in allowed
        self.router.begin(chosen, blocks(path))
        self.jobs.append(chosen)
        for end in range(len(path), 0, -1):
            holders = self.sent.setdefault(path[:end], [])
            if holders and holders[-1] is chosen:
                # What is known of a prompt is not learned again.
                break
            if chosen in holders:
                holders.remove(chosen)
            holders.append(chosen)
            del holders[:-4]

    def allowed(self, replicas: list[Replica], path: tuple[int, ...]) -> list[Replica]:
        """Return the replicas that the rules allow."""
        free = [one for one in replicas if one.running + one.others < one.lanes]
        able = [one for one in free if one.resident] or free or replicas
        if not able:
            return []
        load = min((one.running + one.others) / one.lanes for one in able)
        least = [one for one in able if (one.running + one.others) / one.lanes == load]
        heaviest = max(one.weight for one in least)
        least = [one for one in least if one.weight == heaviest]
        for end in range(len(path), 0, -1):
            knowing = [one for one in self.sent.get(path[:end], ()) if one in able]
            if knowing:
                best = knowing[-1]
                jobs = best.running + best.others
                clearly_busier = jobs / best.lanes > 1.5 * load and jobs > best.lanes / 2
                return least if clearly_busier else [best]
        return least

    @invariant()
    def the_least_busy_comes_first(self) -> None:
        # Before it all that can take a job, and of those all that have the model.
        keys = [
            (one.running + one.others >= one.lanes, not one.resident, (one.running + one.others) / one.lanes)
            for one in self.router.replicas
        ]
        assert keys == sorted(keys, key=lambda key: (key[0], key[1] and not key[0], key[2]))


TestChoices = Choices.TestCase
TestChoices.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


@given(st.lists(st.integers(0, 9), max_size=4 * BLOCK), st.lists(st.integers(0, 9), max_size=4 * BLOCK))
def test_hashes_are_equal_as_far_as_whole_blocks_are(left: list[int], right: list[int]) -> None:
    common = 0
    while common < min(len(left), len(right)) and left[common] == right[common]:
        common += 1
    hashes = block_hashes(left), block_hashes(tuple(right))
    assert [len(one) for one in hashes] == [len(left) // BLOCK, len(right) // BLOCK]
    for index, (one, other) in enumerate(zip(*hashes, strict=False)):
        assert (one == other) is ((index + 1) * BLOCK <= common)


def test_a_hash_depends_on_all_blocks_before() -> None:
    same = list(range(BLOCK))
    assert block_hashes([1] * BLOCK + same)[1] != block_hashes([2] * BLOCK + same)[1]


def test_a_replica_that_returns_knows_nothing() -> None:
    router = Router(draw=random.Random(0))
    first, prompt = router.add("a"), blocks((0, 1))
    router.begin(first, prompt)
    router.end(first)
    router.remove(first)
    again = router.add("a")
    other = router.add("b", weight=2.0)
    # Without a known beginning the weight decides.
    assert router.choose(prompt) is other
    router.begin(again, prompt)
    router.end(again)
    assert router.choose(prompt) is again


def test_a_job_that_outlives_its_replica_is_not_counted_for_the_next_one() -> None:
    router = Router()
    gone = router.add("a")
    router.begin(gone, [])
    router.remove(gone)
    again = router.add("a")
    router.begin(again, [])
    router.end(gone)
    assert again.running == 1
    assert router.replicas == [again]


def test_equals_are_chosen_in_equal_parts() -> None:
    router = Router(draw=random.Random(1))
    replicas = [router.add(name) for name in "abc"]
    chosen = [router.choose([]) for _ in range(300)]
    assert all(80 < chosen.count(replica) < 120 for replica in replicas)


def test_what_was_not_sent_for_long_is_forgotten() -> None:
    router = Router(known_blocks=8, draw=random.Random(0))
    first, second = router.add("a"), router.add("b", weight=2.0)

    def send(path: tuple[int, ...]) -> None:
        router.begin(first, blocks(path))
        router.end(first)
        assert router.known_blocks <= 8

    send((0, 0))
    for number in range(1, 9):
        send((number, number))
        # The system prompt of an agent, say, is sent again and again.
        send((0,))
    assert router.choose(blocks((0, 1))) is first
    assert router.choose(blocks((8, 8))) is first
    assert router.choose(blocks((1, 1))) is second
    # Of a prompt that is longer than the memory the beginning is known.
    send((9,) * 20)
    assert router.choose(blocks((9,))) is first
