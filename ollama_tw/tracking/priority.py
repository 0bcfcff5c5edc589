"""Priorities of requests. Pure."""

from enum import IntEnum


class Priority(IntEnum):
    """Priority of a request among those that wait: the higher, the sooner."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
