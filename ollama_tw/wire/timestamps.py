"""Timestamps in the API's format."""

from datetime import UTC, datetime, timedelta, tzinfo


def rfc3339(nanoseconds: int, zone: tzinfo | None = None) -> str:
    """Format a Unix time in nanoseconds as RFC 3339 in ``zone`` or the local zone, zeros trimmed."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, zone or UTC)
    if zone is None:
        moment = moment.astimezone()
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    offset = moment.utcoffset() or timedelta()
    minutes = int(offset.total_seconds()) // 60
    suffix = (
        f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "Z"
    )
    return f"{moment:%Y-%m-%dT%H:%M:%S}{digits}{suffix}"


def utc(nanoseconds: int) -> str:
    """Format a Unix time in nanoseconds as RFC 3339 in UTC, as in ``created_at``."""
    return rfc3339(nanoseconds, UTC)
