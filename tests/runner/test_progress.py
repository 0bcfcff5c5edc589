"""When a runner counts as hung, with times that the test gives."""

import pytest

from ollama_tw.runner.messages import Activity, Loaded
from ollama_tw.runner.progress import BETWEEN_STEPS, SILENCE, Stall, step_limit

GIB = 1 << 30


def stall(*, interfaces: tuple[str, ...] = ("IActivity",), size: int = 0) -> Stall:
    made = Stall()
    made.know(Loaded("", "", False, size=size, slots=1, interfaces=interfaces))
    made.begin(1000.0)
    return made


def test_the_limit_of_a_step_grows_with_its_tokens_and_with_the_model() -> None:
    assert step_limit(GIB, 1) < step_limit(GIB, 512) < step_limit(40 * GIB, 512)
    # A model of 40 GB that is read from a hard disk at its first step.
    assert step_limit(40 * GIB, 1) > 40 * GIB / 150e6
    # Of the smallest models, not for ever.
    assert step_limit(1 << 20, 512) < 65


def test_a_step_that_lasts_too_long() -> None:
    watched = stall(size=GIB)
    limit = step_limit(GIB, 8)
    step = Activity(3, 3, 1000.0, 8)
    watched.heard(1000.0 + limit, step)
    assert watched.find(1000.0 + limit - 1, step, behind=False) == ""
    assert "did not complete a step of 8 tokens" in watched.find(1000.0 + limit + 1, step, behind=False)


def test_silence() -> None:
    watched = stall()
    assert watched.find(1000.0 + SILENCE - 1, Activity(), behind=True) == ""
    assert "sent nothing" in watched.find(1000.0 + SILENCE + 1, Activity(), behind=True)


def test_steps_that_go_on_without_output_are_progress() -> None:
    watched = stall()
    now = 1000.0
    for step in range(100):
        now += BETWEEN_STEPS / 2
        watched.heard(now, Activity(step + 1))
        assert watched.find(now + 1, Activity(step + 1), behind=False) == ""


@pytest.mark.parametrize(
    ("interfaces", "behind", "hangs"),
    [(("IActivity",), False, True), (("IActivity",), True, False), ((), False, False)],
)
def test_no_step_although_there_is_work(interfaces: tuple[str, ...], behind: bool, hangs: bool) -> None:
    watched = stall(interfaces=interfaces)
    idle = Activity(7)
    watched.heard(1001.0, idle)
    now = 1001.0
    while now < 1001.0 + BETWEEN_STEPS + 1:
        now += SILENCE / 2
        watched.heard(now, idle)
    assert ("made no step" in watched.find(now, idle, behind=behind)) is hangs


def test_the_time_in_which_pieces_are_not_taken_does_not_count() -> None:
    watched = stall()
    now = 1000.0
    while now < 1000.0 + 2 * BETWEEN_STEPS:
        now += SILENCE / 2
        watched.heard(now, Activity())
        assert watched.find(now, Activity(), behind=True) == ""
    # Its pieces have been taken; the next step begins in a moment.
    assert watched.find(now + 1, Activity(), behind=False) == ""
    watched.heard(now + BETWEEN_STEPS, Activity())
    assert "made no step" in watched.find(now + BETWEEN_STEPS + 1, Activity(), behind=False)
