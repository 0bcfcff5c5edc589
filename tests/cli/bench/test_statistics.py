"""Statistics of runs, compared with values computed by hand."""

from ollama_tw.cli.bench.statistics import (
    Limits,
    Run,
    Sample,
    Summary,
    advantage,
    over_repeats,
    percentile,
    summarise,
)


def summary(
    speed: float | None, first: float | None = 1.0, *, errors: int = 0, rss: int | None = None
) -> Summary:
    return Summary(
        requests=4,
        errors=errors,
        tokens_per_second=speed,
        first_p50=first,
        first_p95=first,
        gap_p99=0.5,
        prompt_tokens=10.0,
        cached_tokens=None,
        output_tokens=8.0,
        rss=rss,
        client_cpu=0.01,
    )


def test_percentiles_lie_between_ranks() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([10.0, 20.0], 95) == 19.5
    assert percentile([7.0], 99) == 7.0
    assert percentile(range(101), 99) == 99
    assert percentile([], 50) is None


def test_a_run_counts_the_servers_tokens_over_the_measured_time() -> None:
    run = Run(
        (
            Sample(first=0.2, gaps=(0.1, 0.1), output_tokens=30, prompt_tokens=100, cached_tokens=0),
            Sample(first=0.4, gaps=(0.1, 0.3), output_tokens=10, prompt_tokens=200, cached_tokens=50),
            Sample(error="503 busy"),
        ),
        seconds=4.0,
    )
    found = summarise(run, rss=5000, client_cpu=0.02)
    assert (found.requests, found.errors) == (3, 1)
    assert found.tokens_per_second == 10.0
    assert found.first_p50 == 0.30000000000000004
    assert round(found.gap_p99 or 0, 6) == 0.294
    assert (found.prompt_tokens, found.cached_tokens, found.output_tokens) == (150.0, 25.0, 20.0)
    assert (found.rss, found.client_cpu) == (5000, 0.02)
    assert (found.requests_per_second, found.goodput) == (0.5, 0.5)
    assert summarise(run, limits=Limits(first=1.0, gap=0.2)).goodput == 0.25
    assert summarise(run, limits=Limits(first=0.3, gap=0.3)).goodput == 0.25


def test_a_run_of_failures_has_no_figures() -> None:
    found = summarise(Run((Sample(error="refused"),), seconds=0.1))
    assert (found.requests, found.errors) == (1, 1)
    assert found.tokens_per_second is None
    assert found.first_p50 is None
    assert found.output_tokens is None


def test_repeats_give_medians_sums_and_the_largest_memory() -> None:
    total = over_repeats([summary(10.0, rss=100), summary(30.0, errors=1, rss=300), summary(11.0, rss=200)])
    assert (total.requests, total.errors) == (12, 1)
    assert total.tokens_per_second == 11.0
    assert total.rss == 300
    assert total.cached_tokens is None


def test_the_advantage_is_above_one_where_the_first_is_better() -> None:
    found = advantage([summary(30.0, 0.5, rss=100)], [summary(20.0, 1.0, rss=300)])
    assert found.tokens_per_second == 1.5
    assert found.first_p50 == 2.0
    assert found.gap_p99 == 1.0
    assert found.rss == 3.0


def test_the_advantage_pairs_neighbours_so_that_drift_drops_out() -> None:
    ours = [summary(20.0), summary(10.0), summary(2.0)]
    theirs = [summary(10.0), summary(5.0), summary(1.0)]
    assert advantage(ours, theirs).tokens_per_second == 2.0


def test_a_pair_with_failures_gives_no_advantage() -> None:
    found = advantage([summary(90.0, errors=1), summary(20.0)], [summary(10.0), summary(10.0)])
    assert found.tokens_per_second == 2.0
    assert advantage([summary(90.0)], [summary(10.0, errors=1)]).tokens_per_second is None
