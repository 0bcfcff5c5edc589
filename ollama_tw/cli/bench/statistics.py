"""Statistics of requests, runs and repeats. Pure; times are in seconds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median


@dataclass(frozen=True, slots=True)
class Sample:
    """Measurements of one request.

    `first` is the time from the start of the request to the first piece of text, `gaps` are the times between
    pieces. The token counts are those of the last record; `cached_tokens` is None if it is not reported. If a
    request failed, only `error` is valid.
    """

    first: float | None = None
    gaps: tuple[float, ...] = ()
    output_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    text: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a good request, in seconds: the time to its first piece of text, and its longest gap."""

    first: float = 3.0
    gap: float = 0.5

    def hold(self, sample: Sample) -> bool:
        """Return whether the request succeeded within the limits."""
        if sample.error is not None or sample.first is None:
            return False
        return sample.first <= self.first and max(sample.gaps, default=0.0) <= self.gap


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a scenario on one server; `seconds` is the time of the measured parts."""

    samples: tuple[Sample, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Statistics of a run or of its repeats; None if nothing was measured.

    `prompt_tokens`, `cached_tokens` and `output_tokens` are means over the requests that succeeded; `rss` is
    in bytes; `client_cpu` is the processor time of the load generator relative to the time of the run.
    `goodput` is the number of requests a second that were within the limits.
    """

    requests: int
    errors: int
    tokens_per_second: float | None
    first_p50: float | None
    first_p95: float | None
    gap_p99: float | None
    prompt_tokens: float | None
    cached_tokens: float | None
    output_tokens: float | None
    rss: int | None
    client_cpu: float | None
    requests_per_second: float | None = None
    goodput: float | None = None


@dataclass(frozen=True, slots=True)
class Advantage:
    """Ratios of the first server to another one. Above 1 the first server is better, for each figure."""

    tokens_per_second: float | None
    first_p50: float | None
    first_p95: float | None
    gap_p99: float | None
    rss: float | None
    goodput: float | None


def percentile(values: Iterable[float], percent: float) -> float | None:
    """Return the percentile, interpolated linearly between ranks, or None if there are no values."""
    ordered = sorted(values)
    if not ordered:
        return None
    rank = (len(ordered) - 1) * percent / 100
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def summarise(
    run: Run, *, limits: Limits = DEFAULT_LIMITS, rss: int | None = None, client_cpu: float | None = None
) -> Summary:
    """Return the statistics of a run. Failed requests are counted, and not included in other figures."""
    good = [sample for sample in run.samples if sample.error is None]
    firsts = [sample.first for sample in good if sample.first is not None]
    tokens = sum(sample.output_tokens for sample in good)
    cached = [sample.cached_tokens for sample in good if sample.cached_tokens is not None]
    return Summary(
        requests=len(run.samples),
        errors=len(run.samples) - len(good),
        tokens_per_second=tokens / run.seconds if good and run.seconds > 0 else None,
        first_p50=percentile(firsts, 50),
        first_p95=percentile(firsts, 95),
        gap_p99=percentile((gap for sample in good for gap in sample.gaps), 99),
        prompt_tokens=fmean(sample.prompt_tokens for sample in good) if good else None,
        cached_tokens=fmean(cached) if cached else None,
        output_tokens=tokens / len(good) if good else None,
        rss=rss,
        client_cpu=client_cpu,
        requests_per_second=len(good) / run.seconds if good and run.seconds > 0 else None,
        goodput=sum(map(limits.hold, good)) / run.seconds if run.seconds > 0 else None,
    )


def over_repeats(repeats: Sequence[Summary]) -> Summary:
    """Combine repeats: sums of requests and errors, maxima of `rss` and `client_cpu`, medians of the rest."""

    def middle(figure: Callable[[Summary], float | None]) -> float | None:
        return _median(figure(repeat) for repeat in repeats)

    return Summary(
        requests=sum(repeat.requests for repeat in repeats),
        errors=sum(repeat.errors for repeat in repeats),
        tokens_per_second=middle(lambda s: s.tokens_per_second),
        first_p50=middle(lambda s: s.first_p50),
        first_p95=middle(lambda s: s.first_p95),
        gap_p99=middle(lambda s: s.gap_p99),
        prompt_tokens=middle(lambda s: s.prompt_tokens),
        cached_tokens=middle(lambda s: s.cached_tokens),
        output_tokens=middle(lambda s: s.output_tokens),
        rss=max((repeat.rss for repeat in repeats if repeat.rss is not None), default=None),
        client_cpu=max((r.client_cpu for r in repeats if r.client_cpu is not None), default=None),
        requests_per_second=middle(lambda s: s.requests_per_second),
        goodput=middle(lambda s: s.goodput),
    )


def advantage(ours: Sequence[Summary], theirs: Sequence[Summary]) -> Advantage:
    """Return the medians of the ratios of neighbouring repeats, which cancels load that affects both.

    Pairs with a failed request are excluded: a server that rejects requests is not fast.
    """
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if not a.errors and not b.errors]

    def ratio(figure: Callable[[Summary], float | None], *, more_is_better: bool) -> float | None:
        found = []
        for a, b in pairs:
            mine, other = figure(a), figure(b)
            if mine and other:
                found.append(mine / other if more_is_better else other / mine)
        return _median(found)

    return Advantage(
        tokens_per_second=ratio(lambda s: s.tokens_per_second, more_is_better=True),
        first_p50=ratio(lambda s: s.first_p50, more_is_better=False),
        first_p95=ratio(lambda s: s.first_p95, more_is_better=False),
        gap_p99=ratio(lambda s: s.gap_p99, more_is_better=False),
        rss=ratio(lambda s: s.rss, more_is_better=False),
        goodput=ratio(lambda s: s.goodput, more_is_better=True),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
