"""The figures of one server, in the form that Prometheus reads. Any thread may count.

Every label takes its values from a set that the code knows, so that no client can make their
number grow.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class LoadedModelState:
    """One loaded model now; sizes are bytes, ``running`` are of its ``slots``."""

    size: int
    size_gpu: int
    slots: int
    running: int


@dataclass(frozen=True)
class EngineState:
    """What is asked for when the figures are read. ``steps`` and ``runs``: the batches decoded since
    the start, and the runs that took part in them, by backends that count them."""

    waiting: int
    models: tuple[LoadedModelState, ...]
    steps: int
    runs: int


class Metrics:
    """Counters and histograms with a registry of their own: two servers in a process do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ollama_requests", "Requests answered", ("route", "status"), registry=self._registry
        )
        self._request_seconds = Histogram(
            "ollama_request_seconds",
            "From a request's head to the end of its reply",
            ("route",),
            buckets=_LONG,
            registry=self._registry,
        )
        self._waited = Histogram(
            "ollama_queue_wait_seconds",
            "How long requests waited for a model or a slot",
            buckets=_LONG,
            registry=self._registry,
        )
        self._load_seconds = Histogram(
            "ollama_load_seconds", "How long models took to load", buckets=_LONG, registry=self._registry
        )
        self._load_failures = Counter("ollama_load_failures", "Loads that failed", registry=self._registry)
        self._prompt_tokens = Counter("ollama_prompt_tokens", "Tokens of prompts", registry=self._registry)
        self._cached_tokens = Counter(
            "ollama_prompt_cached_tokens",
            "Tokens of prompts that were found in the cache",
            registry=self._registry,
        )
        self._output_tokens = Counter("ollama_output_tokens", "Tokens generated", registry=self._registry)
        self._first_token = Histogram(
            "ollama_first_token_seconds",
            "From a request to the first piece of its output",
            buckets=_LONG,
            registry=self._registry,
        )
        self._gap = Histogram(
            "ollama_token_gap_seconds",
            "Between two pieces of output",
            buckets=_SHORT,
            registry=self._registry,
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """A reply is complete, or its client gone (status 499); ``route`` is '' for paths that are none."""
        route = route or "other"
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def waited(self, seconds: float) -> None:
        """Somebody left the queue."""
        self._waited.observe(seconds)

    def loaded(self, seconds: float) -> None:
        """A model was loaded."""
        self._load_seconds.observe(seconds)

    def load_failed(self) -> None:
        """A model was not."""
        self._load_failures.inc()

    def first_token(self, seconds: float) -> None:
        """The first piece of an output came."""
        self._first_token.observe(seconds)

    def gap(self, seconds: float) -> None:
        """A later piece came."""
        self._gap.observe(seconds)

    def tokens(self, prompt: int, cached: int, output: int) -> None:
        """A run came to its end."""
        self._prompt_tokens.inc(prompt)
        self._cached_tokens.inc(cached)
        self._output_tokens.inc(output)

    def watch(self, state: Callable[[], EngineState]) -> None:
        """Ask ``state`` whenever the figures are read, on the thread that reads them."""
        self._registry.register(_StateCollector(state))

    def render(self) -> bytes:
        """All figures in Prometheus's text format, :data:`CONTENT_TYPE`."""
        return generate_latest(self._registry)


class _StateCollector(Collector):
    def __init__(self, state: Callable[[], EngineState]) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        models = state.models
        yield GaugeMetricFamily("ollama_queue_length", "Requests that wait", value=state.waiting)
        yield GaugeMetricFamily("ollama_loaded_models", "Models in memory", value=len(models))
        yield GaugeMetricFamily(
            "ollama_loaded_bytes", "Bytes that they hold", value=sum(one.size for one in models)
        )
        yield GaugeMetricFamily(
            "ollama_loaded_gpu_bytes", "Of these, in GPU memory", value=sum(one.size_gpu for one in models)
        )
        yield GaugeMetricFamily(
            "ollama_slots", "Requests that the loaded models can run", value=sum(one.slots for one in models)
        )
        yield GaugeMetricFamily(
            "ollama_slots_busy", "Requests that run", value=sum(one.running for one in models)
        )
        yield CounterMetricFamily("ollama_decode_steps", "Batches decoded", value=state.steps)
        yield CounterMetricFamily(
            "ollama_decode_runs",
            "Runs that took part in the batches; divided by the batches, their occupancy",
            value=state.runs,
        )
