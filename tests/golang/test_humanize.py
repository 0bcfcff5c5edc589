import pytest

from ollama_tw.golang.durations import HOUR, MINUTE, SECOND
from ollama_tw.golang.humanize import human_bytes, human_time

DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1500, "1.5 KB"),
        (9_999, "10.0 KB"),
        (10_900, "10 KB"),
        (4_661_224_676, "4.7 GB"),
        (999_999_999, "999 MB"),
        (2_000_000_000_000, "2 TB"),
        (12_345_678_901_234, "12 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("elapsed", "text"),
    [
        (0, "Less than a second ago"),
        (SECOND, "1 second ago"),
        (59 * SECOND, "59 seconds ago"),
        (MINUTE, "About a minute ago"),
        (119 * SECOND, "About a minute ago"),
        (59 * MINUTE, "59 minutes ago"),
        (HOUR, "About an hour ago"),
        (90 * MINUTE - 1, "About an hour ago"),
        (90 * MINUTE, "2 hours ago"),
        (47 * HOUR, "47 hours ago"),
        (2 * DAY, "2 days ago"),
        (14 * DAY - HOUR, "13 days ago"),
        (14 * DAY, "2 weeks ago"),
        (60 * DAY - HOUR, "8 weeks ago"),
        (60 * DAY, "2 months ago"),
        (730 * DAY - HOUR, "24 months ago"),
        (730 * DAY, "2 years ago"),
        (-4 * MINUTE - SECOND, "4 minutes from now"),
        (-20 * 365 * DAY, "20 years from now"),
        (-21 * 365 * DAY, "Forever"),
    ],
)
def test_times(elapsed: int, text: str) -> None:
    assert human_time(elapsed) == text
