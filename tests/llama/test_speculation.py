"""Number of drafted tokens that a step evaluates."""

from collections.abc import Mapping

import pytest

from ollama_tw.llama.drafter import Drafter
from ollama_tw.llama.speculation import (
    MOST_DRAFTED,
    Acceptance,
    Offer,
    class_of_match,
    lengths,
)
from ollama_tw.llama.step_costs import StepCosts

# Of docs/performance.md: a processor with two cores, where a step of eight rows is dear.
SMALL_MODEL = {1: 16, 2: 26, 4: 38, 8: 42, 16: 73, 32: 127}
LARGE_MODEL = {1: 37, 2: 56, 4: 87, 8: 214, 16: 255, 32: 372}


def costs(milliseconds: Mapping[int, float]) -> StepCosts:
    found = StepCosts()
    for rows, value in milliseconds.items():
        found.record([rows], value / 1000)
    return found


def test_a_sure_draft_is_as_long_as_it_pays() -> None:
    assert lengths([Offer([0.98] * 15)], costs(SMALL_MODEL)) == [15]
    # Eight rows cost as much as six steps there.
    assert lengths([Offer([0.9] * 15)], costs(LARGE_MODEL)) == [3]


def test_a_poor_draft_is_not_evaluated() -> None:
    assert lengths([Offer([0.3] * 15)], costs(SMALL_MODEL)) == [0]
    assert lengths([Offer([0.55] * 1)], costs(LARGE_MODEL)) == [0]


def test_no_more_than_the_draft_has() -> None:
    assert lengths([Offer([0.98] * 2)], costs(SMALL_MODEL)) == [2]
    assert lengths([Offer([1.0] * 15)], costs(SMALL_MODEL), most=4) == [3]


def test_nothing_is_evaluated_before_a_plain_step_was_measured() -> None:
    assert lengths([Offer([0.99] * 8)], StepCosts()) == [0]
    # Two sequences have not run together yet.
    assert lengths([Offer([0.99] * 8), None], costs({1: 16, 4: 38})) == [0, 0]


def test_sequences_without_a_draft() -> None:
    assert lengths([], costs(SMALL_MODEL)) == []
    assert lengths([None, None], costs(SMALL_MODEL)) == [0, 0]


def test_beside_others_a_draft_has_to_pay_for_a_pass_of_its_own() -> None:
    # Four rows and eight more of one sequence take 80 ms instead of 38, and give twice the tokens at best.
    alone = lengths([Offer([0.9] * 7)], costs(SMALL_MODEL))
    beside = lengths([Offer([0.9] * 7), None, None, None], costs(SMALL_MODEL))
    assert alone == [7]
    assert beside == [0, 0, 0, 0]


def test_equal_drafts_share_a_pass() -> None:
    found = lengths([Offer([0.95] * 3)] * 4, costs(SMALL_MODEL))
    assert found == [3, 3, 3, 3]
    assert sum(found) <= MOST_DRAFTED


def test_experience_moves_the_assumption() -> None:
    model = Acceptance()
    good, bad = Acceptance(model), Acceptance(model)
    first = good.probability(1)
    for _ in range(20):
        good.record(1, 4, 4)
    assert good.probability(1) > 0.9 > first
    # Another sequence profits from it, until its own experience differs.
    assert bad.probability(1) > first
    for _ in range(20):
        bad.record(1, 0, 1)
    assert bad.probability(1) < 0.2
    assert good.probability(1) > 0.9


def test_longer_matches_are_trusted_more() -> None:
    acceptance = Acceptance()
    assumed = [acceptance.probability(class_of_match(match)) for match in (2, 3, 4, 8, 12, 30)]
    assert assumed == sorted(set(assumed))


def test_a_geometric_draft() -> None:
    assert Offer([0.5] * 3).expected(3) == pytest.approx(0.5 + 0.25 + 0.125)
    assert Offer([1.0] * 3).expected(3) == 3.0


def drafter(*prompt: int, most: int | None = None) -> Drafter:
    return Drafter(prompt, lambda token: token == 99, Acceptance(), most)


def test_a_drafter_counts_what_was_evaluated_and_accepted() -> None:
    one = drafter(1, 2, 3, 4, 5, 6, 1, 2)
    assert one.offer(4) is not None
    assert one.take(3) == [3, 4, 5]
    one.follow([3, 4, 7])
    assert (one.drafted, one.accepted) == (3, 2)


def test_a_draft_that_was_not_evaluated_is_judged_by_its_first_token() -> None:
    one = drafter(1, 2, 3, 4, 1, 2)
    before = one.offer(4)
    one.follow([3])
    after = one.offer(4)
    assert before is not None
    assert after is not None
    assert (one.drafted, one.accepted) == (0, 0)
    one = drafter(1, 2, 3, 4, 1, 2)
    one.offer(4)
    one.follow([8])
    for token in (1, 2):
        one.follow([token])
    worse = one.offer(4)
    assert worse is not None
    assert worse.probabilities[0] < before.probabilities[0]


def test_the_generated_tokens_are_drafted_from_too() -> None:
    one = drafter(1, 2, 3)
    one.follow([50, 51, 52])
    one.follow([50])
    one.follow([51])
    assert one.offer(1) is not None
    assert one.take(1) == [52]


def test_the_limit_of_a_request() -> None:
    one = drafter(1, 2, 3, 4, 5, 6, 1, 2, most=2)
    offer = one.offer(8)
    assert offer is not None
    assert offer.length == 2
