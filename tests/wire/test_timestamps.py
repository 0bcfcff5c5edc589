from datetime import UTC, timedelta, timezone

from ollama_tw.wire.timestamps import rfc3339


def test_times_have_nanoseconds_and_an_offset() -> None:
    zone = timezone(timedelta(hours=-3, minutes=-30))
    assert rfc3339(1_700_000_000_123_456_789, zone) == "2023-11-14T18:43:20.123456789-03:30"
    assert rfc3339(1_700_000_000_120_000_000, timezone(timedelta(hours=2))) == "2023-11-15T00:13:20.12+02:00"
    assert rfc3339(1_700_000_000_000_000_000, UTC) == "2023-11-14T22:13:20Z"
