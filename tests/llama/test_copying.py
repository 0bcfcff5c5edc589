"""Drafts that copy what followed the last tokens where they stood before."""

import pytest

from ollama_tw.llama.copying import LONGEST_MATCH, Copied, History


def history(*tokens: int) -> History:
    return History(tokens, lambda token: token == 99)


def test_what_followed_the_last_tokens() -> None:
    assert history(1, 2, 3, 4, 5, 8, 2, 3).find(2) == Copied([4, 5], 2)


def test_one_equal_token_is_no_match() -> None:
    assert history(1, 2, 3, 4, 5, 3).find(4) is None
    assert history(7, 7).find(4) is None
    assert history(7).find(4) is None
    assert history().find(4) is None


def test_the_longest_match_is_preferred_to_the_latest() -> None:
    assert history(1, 2, 3, 10, 5, 2, 3, 20, 1, 2, 3).find(1) == Copied([10], 3)


def test_the_latest_of_equal_matches_is_preferred() -> None:
    assert history(2, 3, 10, 2, 3, 20, 2, 3).find(1) == Copied([20], 2)


def test_a_match_at_the_very_beginning() -> None:
    assert history(4, 5, 6, 4, 5).find(2) == Copied([6, 4], 2)


def test_generated_tokens_count() -> None:
    tokens = history(1, 2, 3)
    for token in (7, 8, 9, 7, 8):
        tokens.append(token)
    assert tokens.find(1) == Copied([9], 2)


def test_many_generated_tokens() -> None:
    tokens = history(1, 2)
    for token in range(1000):
        tokens.append(1000 + token)
    tokens.append(1)
    tokens.append(2)
    assert tokens.find(2) == Copied([1000, 1001], 2)


def test_a_repetition_continues_beyond_its_end() -> None:
    assert history(5, 1, 2, 3, 1, 2, 3, 1, 2).find(7) == Copied([3, 1, 2, 3, 1, 2, 3], 5)


def test_a_long_match_is_the_latest_of_all_that_are_as_long() -> None:
    row = [7] * (3 * LONGEST_MATCH)
    assert history(*row).find(3) == Copied([7, 7, 7], LONGEST_MATCH)


@pytest.mark.parametrize("end", [99, -5, -(2**63) + 1])
def test_a_draft_stops_before_the_end_of_generation_and_before_an_image(end: int) -> None:
    assert history(1, 2, 3, end, 4, 1, 2).find(4) == Copied([3], 2)
    assert history(1, 2, end, 4, 1, 2).find(4) is None


def test_no_tokens_are_wanted() -> None:
    assert history(1, 2, 3, 1, 2).find(0) is None
