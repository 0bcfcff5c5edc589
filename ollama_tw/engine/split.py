"""Consecutive layers over several GPUs: as few of them as hold all, each filled as evenly as can be."""

from collections.abc import Sequence

# Halvings of the search for the even filling: the last is less than a byte of any GPU.
_STEPS = 40


class NoRoom(Exception):
    """The GPUs do not hold the layers."""


def split_layers(
    sizes: Sequence[int],
    room: Sequence[int],
    *,
    spread: bool = False,
    first: int | None = None,
    insist: bool = False,
) -> tuple[int, ...]:
    """How many of the layers, whose ``sizes`` are given in order, go to each GPU.

    ``room`` is what each GPU can take. Without ``spread`` the GPU with the most room that holds all
    is taken alone, else as few as are needed, those with the most room; ``first`` is taken before
    all others. With ``insist`` layers that fit nowhere are spread in proportion to the room.
    Raises :class:`NoRoom`.
    """
    order = sorted(range(len(room)), key=lambda index: (index != first, -room[index], index))
    for count in range(len(room) if spread else 1, len(room) + 1):
        chosen = sorted(order[:count])
        counts = _even(sizes, [room[index] for index in chosen])
        if counts is not None:
            return _placed(counts, chosen, len(room))
    if not insist:
        raise NoRoom
    chosen = sorted(order)
    most = max(sum(sizes), 1)
    total = sum(room)
    shares = [most * one // total if total else most // len(room) for one in room]
    counts = _fill(sizes, shares)
    counts[-1] += len(sizes) - sum(counts)
    return _placed(counts, chosen, len(room))


def _placed(counts: Sequence[int], chosen: Sequence[int], gpus: int) -> tuple[int, ...]:
    found = dict(zip(chosen, counts, strict=True))
    return tuple(found.get(index, 0) for index in range(gpus))


def _even(sizes: Sequence[int], room: Sequence[int]) -> list[int] | None:
    """The filling with the lowest part of each GPU used; None where even all of it is too little."""
    best = _fill(sizes, room)
    if sum(best) < len(sizes):
        return None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        part = (low + high) / 2
        counts = _fill(sizes, [int(one * part) for one in room])
        if sum(counts) == len(sizes):
            best, high = counts, part
        else:
            low = part
    return best


def _fill(sizes: Sequence[int], room: Sequence[int]) -> list[int]:
    """How many layers each GPU takes when they are filled one after the other."""
    counts = []
    taken = 0
    for limit in room:
        begin, used = taken, 0
        while taken < len(sizes) and used + sizes[taken] <= limit:
            used += sizes[taken]
            taken += 1
        counts.append(taken - begin)
    return counts
