"""Overhead of a Ray cluster for each request and each token, beside the same backend in this process.

A cluster of one node is started on this machine. Its replica and this process run a backend whose models take
no time, so that what is left is the way to a replica and back. See README.md.
"""

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ollama_tw.interfaces import IRunner, Job, LoadPlan
from ollama_tw.testing.fake import FakeBackend

ROOT = Path(__file__).parents[1]
PATHS = (ROOT, ROOT / "contrib" / "ollama-tw-ray", ROOT / "benchmarks" / "fake")


def seconds(runner: IRunner, tokens: int) -> float:
    """Return the time of a job with so many tokens."""
    began = time.perf_counter()
    for _ in runner.generate(Job((97, 98, 99), max_tokens=tokens)):
        pass
    return time.perf_counter() - began


def figures(runner: IRunner, tokens: int, repeats: int) -> tuple[float, float]:
    """Return the seconds of a job of one token, and of each further token: medians after two calls more."""
    short, long = (
        statistics.median([seconds(runner, count) for _ in range(repeats + 2)][2:]) for count in (1, tokens)
    )
    return short, (long - short) / (tokens - 1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args(arguments)
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, PATHS))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["OLLAMA_TW_RAY_BACKEND"] = "endless"

    import ray
    from ollama_tw_ray import RayBackend
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    os.environ["RAY_ADDRESS"] = cluster.address
    plan = LoadPlan(str(Path(__file__)), slots=2, context_length=given.tokens + 16)
    print("| backend | request of 1 token | each further token |")
    print("| --- | ---: | ---: |")
    backend = RayBackend()
    backend.probe()
    for name, runner in (
        ("local", FakeBackend().load(plan, lambda done: True)),
        ("ray", backend.load(plan, lambda done: True)),
    ):
        with closing(runner):
            request, token = figures(runner, given.tokens, given.repeats)
        print(f"| {name} | {request * 1e3:.2f} ms | {token * 1e6:.1f} µs |")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
