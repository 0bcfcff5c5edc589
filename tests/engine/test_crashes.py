"""Models whose runners crash again and again."""

import pytest

from ollama_tw.engine.crashes import Crashes
from ollama_tw.errors import OllamaError

REASON = "was killed by SIGSEGV"


def crashed(*times: float) -> Crashes:
    crashes = Crashes()
    for now in times:
        crashes.note("/m", REASON, now)
    return crashes


def test_the_third_death_within_a_minute_has_the_model_refused_with_the_reason() -> None:
    crashes = crashed(0, 30, 60)
    with pytest.raises(OllamaError) as caught:
        crashes.check("/m", "m:latest", 70)
    assert caught.value.status == 503
    assert caught.value.message == (
        'the runner of model "m:latest" was killed by SIGSEGV, the third time within a minute: '
        "it is not loaded again for 50 seconds"
    )
    crashes.check("/other", "other", 70)


@pytest.mark.parametrize("times", [(0,), (0, 1), (0, 30, 61), (0, 50, 100, 150)])
def test_deaths_that_are_rarer_are_no_reason(times: tuple[float, ...]) -> None:
    crashed(*times).check("/m", "m", times[-1])


def test_after_a_minute_the_model_is_loaded_again_and_its_deaths_are_counted_anew() -> None:
    crashes = crashed(0, 1, 2)
    crashes.check("/m", "m", 62)
    crashes.note("/m", REASON, 63)
    crashes.check("/m", "m", 64)
