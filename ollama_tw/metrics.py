"""Prometheus metrics of one server. Methods that count may be called on any thread.

The values of every label are from a fixed set or bounded in number: clients cannot increase it.

Source: the Prometheus text exposition format, version 0.0.4; docs/deployment.md lists the metrics.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ollama_tw.interfaces import PromptCacheFigures

_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class LoadedModelState:
    """Sizes of a loaded model in bytes, the number of its ``slots``, and of those that are busy."""

    size: int
    size_gpu: int
    slots: int
    running: int


@dataclass(frozen=True)
class EngineState:
    """State of the scheduler when the metrics are rendered.

    ``waiting``: queued requests. ``steps`` and ``runs``: batches decoded since the start, and sequences
    in them, of backends that count them. ``cache``: counters of the prompt caches; ``state_bytes``: their
    saved states of loaded models, ``parked_bytes`` those of models that were unloaded.
    """

    waiting: int
    models: tuple[LoadedModelState, ...]
    steps: int
    runs: int
    cache: PromptCacheFigures = field(default_factory=PromptCacheFigures)
    state_bytes: int = 0
    parked_bytes: int = 0


MAX_MODELS = 32
"""Maximum number of models with a label of their own."""

OTHER_MODELS = "other"
"""Label of the models beyond that."""


@dataclass(frozen=True)
class ModelHistograms:
    """The histograms of one model, all in seconds; ``observe`` may be called on any thread.

    ``waited``: for the queueing of its requests; ``loaded``: for its successful loads; ``first_token``: from
    a request to the first piece of its output; ``gap``: between two pieces.
    """

    waited: Histogram
    loaded: Histogram
    first_token: Histogram
    gap: Histogram


class Metrics:
    """Counters and histograms in a registry of their own, for several servers in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ollama_requests", "Completed requests", ("route", "status"), registry=self._registry
        )
        self._request_seconds = Histogram(
            "ollama_request_seconds",
            "Time from the head of a request to the end of its reply",
            ("route",),
            buckets=_LONG,
            registry=self._registry,
        )
        self._refused = Counter(
            "ollama_refused_requests",
            "Requests that were refused because of their API key, or for lack of one",
            ("reason",),
            registry=self._registry,
        )
        self._waited = Histogram(
            "ollama_queue_wait_seconds",
            "Time that requests were queued for a model or a slot",
            ("model",),
            buckets=_LONG,
            registry=self._registry,
        )
        self._load_seconds = Histogram(
            "ollama_load_seconds",
            "Duration of model loads",
            ("model",),
            buckets=_LONG,
            registry=self._registry,
        )
        self._load_failures = Counter("ollama_load_failures", "Failed model loads", registry=self._registry)
        self._deaths = Counter(
            "ollama_runner_deaths",
            "Runner processes that ended by themselves, or were killed because they made no progress",
            ("reason",),
            registry=self._registry,
        )
        self._prompt_tokens = Counter("ollama_prompt_tokens", "Prompt tokens", registry=self._registry)
        self._cached_tokens = Counter(
            "ollama_prompt_cached_tokens",
            "Prompt tokens that were found in the KV cache",
            registry=self._registry,
        )
        self._output_tokens = Counter("ollama_output_tokens", "Generated tokens", registry=self._registry)
        self._drafted_tokens = Counter(
            "ollama_drafted_tokens",
            "Drafted tokens that were evaluated",
            registry=self._registry,
        )
        self._accepted_tokens = Counter(
            "ollama_draft_accepted_tokens",
            "Drafted tokens that became output",
            registry=self._registry,
        )
        self._first_token = Histogram(
            "ollama_first_token_seconds",
            "Time from a request to the first piece of its output",
            ("model",),
            buckets=_LONG,
            registry=self._registry,
        )
        self._gap = Histogram(
            "ollama_token_gap_seconds",
            "Time between two pieces of output",
            ("model",),
            buckets=_SHORT,
            registry=self._registry,
        )
        self._models: dict[str, ModelHistograms] = {}

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a completed reply, or one whose client has disconnected (status 499); ``route`` may be ""."""
        route = route or "other"
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a request that the keys in use do not admit; ``reason`` is one of a few."""
        self._refused.labels(reason).inc()

    def model(self, name: str) -> "ModelHistograms":
        """Return the histograms of a model; those beyond the first :data:`MAX_MODELS` share one."""
        if name not in self._models and len(self._models) >= MAX_MODELS:
            name = OTHER_MODELS
        found = self._models.get(name)
        if found is None:
            # Two threads may do this at once: both get the same series.
            found = self._models[name] = ModelHistograms(
                *(
                    histogram.labels(name)
                    for histogram in (self._waited, self._load_seconds, self._first_token, self._gap)
                )
            )
        return found

    def load_failed(self) -> None:
        """Count a failed model load."""
        self._load_failures.inc()

    def runner_died(self, reason: str) -> None:
        """Count the death of a runner process; ``reason`` is the name of a signal, or another of a few."""
        self._deaths.labels(reason).inc()

    def tokens(self, prompt: int, cached: int, output: int) -> None:
        """Count the tokens of a finished job: of its prompt, of those the cached ones, and generated ones."""
        self._prompt_tokens.inc(prompt)
        self._cached_tokens.inc(cached)
        self._output_tokens.inc(output)

    def drafts(self, drafted: int, accepted: int) -> None:
        """Count the drafted tokens of a finished job, and those of them that became output."""
        self._drafted_tokens.inc(drafted)
        self._accepted_tokens.inc(accepted)

    def watch(self, state: Callable[[], EngineState]) -> None:
        """Call ``state`` at each :meth:`render`, on the thread that renders."""
        self._registry.register(_StateCollector(state))

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format, :data:`CONTENT_TYPE`."""
        return generate_latest(self._registry)


class _StateCollector(Collector):
    def __init__(self, state: Callable[[], EngineState]) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        models = state.models
        yield GaugeMetricFamily("ollama_queue_length", "Queued requests", value=state.waiting)
        yield GaugeMetricFamily("ollama_loaded_models", "Models in memory", value=len(models))
        yield GaugeMetricFamily(
            "ollama_loaded_bytes",
            "Memory of the loaded models in bytes",
            value=sum(one.size for one in models),
        )
        yield GaugeMetricFamily(
            "ollama_loaded_gpu_bytes",
            "GPU memory of the loaded models in bytes",
            value=sum(one.size_gpu for one in models),
        )
        yield GaugeMetricFamily(
            "ollama_slots", "Slots of the loaded models", value=sum(one.slots for one in models)
        )
        yield GaugeMetricFamily("ollama_slots_busy", "Busy slots", value=sum(one.running for one in models))
        yield CounterMetricFamily("ollama_decode_steps", "Decoded batches", value=state.steps)
        yield CounterMetricFamily(
            "ollama_decode_runs",
            "Sequences in the decoded batches; divided by the batches, their occupancy",
            value=state.runs,
        )
        yield from _cache_metrics(state)


def _cache_metrics(state: EngineState) -> Iterable[Metric]:
    cache = state.cache
    yield CounterMetricFamily(
        "ollama_prompt_cache_lookups", "Prompts that were looked up in the prompt cache", value=cache.lookups
    )
    tokens = CounterMetricFamily(
        "ollama_prompt_cache_tokens", "Prompt tokens found, by the tier that had them", labels=["tier"]
    )
    tokens.add_metric(["slot"], cache.slot_tokens)
    tokens.add_metric(["state"], cache.state_tokens)
    yield tokens
    size = GaugeMetricFamily(
        "ollama_prompt_cache_bytes", "Saved states of loaded and of unloaded models", labels=["model"]
    )
    size.add_metric(["loaded"], state.state_bytes)
    size.add_metric(["unloaded"], state.parked_bytes)
    yield size
    for name, text, value in (
        ("saves", "States that were saved", cache.saves),
        ("save_seconds", "Time spent on saving states", cache.save_seconds),
        ("restores", "States that were restored", cache.restores),
        ("restore_seconds", "Time spent on restoring states", cache.restore_seconds),
        ("evictions", "States that were dropped for lack of space", cache.evictions),
        ("moves", "Running sequences that were moved next to the others", cache.moves),
    ):
        yield CounterMetricFamily(f"ollama_prompt_cache_{name}", text, value=value)
