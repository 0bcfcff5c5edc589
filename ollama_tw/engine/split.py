"""Distribution of consecutive layers over GPUs: as few GPUs as possible, each filled evenly."""

from collections.abc import Sequence

# Bisection steps of the search for an even fill: the last one is below one byte of any GPU.
_BISECTION_STEPS = 40


class LayersDoNotFit(Exception):
    """The layers do not fit into the GPUs."""


def split_layers(
    sizes: Sequence[int],
    capacities: Sequence[int],
    *,
    spread: bool = False,
    first: int | None = None,
    force: bool = False,
) -> tuple[int, ...]:
    """Return the number of layers for each GPU.

    ``sizes`` are the layers' bytes in order, ``capacities`` the bytes that each GPU can take. Without
    ``spread`` the GPU with the largest capacity is used alone if it holds all layers, else as few
    GPUs as hold them, the largest first; ``first`` is preferred to all others. With ``force`` layers
    that do not fit are distributed in proportion to the capacities; otherwise they raise
    :class:`LayersDoNotFit`.
    """
    order = sorted(range(len(capacities)), key=lambda index: (index != first, -capacities[index], index))
    for count in range(len(capacities) if spread else 1, len(capacities) + 1):
        chosen = sorted(order[:count])
        counts = _fill_evenly(sizes, [capacities[index] for index in chosen])
        if counts is not None:
            return _by_gpu(counts, chosen, len(capacities))
    if not force:
        raise LayersDoNotFit
    chosen = sorted(order)
    needed = max(sum(sizes), 1)
    total = sum(capacities)
    shares = [needed * capacity // total if total else needed // len(capacities) for capacity in capacities]
    counts = _fill(sizes, shares)
    counts[-1] += len(sizes) - sum(counts)
    return _by_gpu(counts, chosen, len(capacities))


def _by_gpu(counts: Sequence[int], chosen: Sequence[int], gpu_count: int) -> tuple[int, ...]:
    by_index = dict(zip(chosen, counts, strict=True))
    return tuple(by_index.get(index, 0) for index in range(gpu_count))


def _fill_evenly(sizes: Sequence[int], capacities: Sequence[int]) -> list[int] | None:
    """Return the fill that uses the smallest fraction of each GPU, None if the layers do not fit."""
    best = _fill(sizes, capacities)
    if sum(best) < len(sizes):
        return None
    low, high = 0.0, 1.0
    for _ in range(_BISECTION_STEPS):
        fraction = (low + high) / 2
        counts = _fill(sizes, [int(capacity * fraction) for capacity in capacities])
        if sum(counts) == len(sizes):
            best, high = counts, fraction
        else:
            low = fraction
    return best


def _fill(sizes: Sequence[int], capacities: Sequence[int]) -> list[int]:
    """Return the number of layers for each GPU when the GPUs are filled one after the other."""
    counts = []
    taken = 0
    for limit in capacities:
        begin, used = taken, 0
        while taken < len(sizes) and used + sizes[taken] <= limit:
            used += sizes[taken]
            taken += 1
        counts.append(taken - begin)
    return counts
