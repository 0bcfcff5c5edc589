"""Sizes and points in time, as Ollama prints them for people.

Source: ollama: format/bytes.go, HumanBytes; format/time.go, HumanTime.
"""

import math

from ollama_tw.golang.durations import HOUR, MINUTE, SECOND

_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
_HOURS_PER_YEAR = 24 * 365
_FOREVER_YEARS = 20


def human_bytes(count: int) -> str:
    """Return a size in decimal units: ``4.7 GB``, ``999 MB``, ``512 B``; from 10 units on, not rounded."""
    for size, unit in _UNITS:
        if count >= size:
            if count >= 10 * size or count % size == 0:
                return f"{count // size} {unit}"
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def human_duration(nanoseconds: int) -> str:
    """Return the length of a duration that is not negative: ``About a minute``, ``3 hours``, ``2 weeks``."""
    seconds = nanoseconds // SECOND
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = nanoseconds // MINUTE
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    # Rounded half up, as math.Round does; the years are those of the hours that are not rounded.
    hours = math.floor(nanoseconds / HOUR + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < _HOURS_PER_YEAR * 2:
        return f"{hours // 24 // 30} months"
    return f"{nanoseconds // HOUR // _HOURS_PER_YEAR} years"


def human_time(elapsed: int) -> str:
    """Return how long ago a point in time was: ``2 days ago``, ``4 minutes from now``, ``Forever``.

    ``elapsed`` is the time since then in nanoseconds, negative for the future.
    """
    if elapsed >= 0:
        return f"{human_duration(elapsed)} ago"
    if -elapsed // HOUR // 24 // 365 > _FOREVER_YEARS:
        return "Forever"
    return f"{human_duration(-elapsed)} from now"
