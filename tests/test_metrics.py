"""Metrics in the text format of Prometheus."""

from prometheus_client.parser import text_string_to_metric_families

from ollama_tw.interfaces import PromptCacheFigures
from ollama_tw.metrics import MAX_MODELS, EngineState, LoadedModelState, Metrics


def figures(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_counters_and_histograms() -> None:
    metrics = Metrics()
    metrics.request("/api/chat", 200, 0.3)
    metrics.request("", 404, 0.001)
    metrics.tokens(10, 4, 7)
    metrics.drafts(9, 6)
    model = metrics.model("m")
    model.first_token.observe(0.2)
    model.gap.observe(0.004)
    model.waited.observe(2.0)
    model.loaded.observe(3.0)
    metrics.load_failed()
    found = figures(metrics)
    assert found['ollama_requests_total{route="/api/chat",status="200"}'] == 1
    assert found['ollama_requests_total{route="other",status="404"}'] == 1
    assert found['ollama_request_seconds_bucket{le="0.5",route="/api/chat"}'] == 1
    assert found["ollama_prompt_tokens_total"] == 10
    assert found["ollama_prompt_cached_tokens_total"] == 4
    assert found["ollama_output_tokens_total"] == 7
    assert found["ollama_drafted_tokens_total"] == 9
    assert found["ollama_draft_accepted_tokens_total"] == 6
    assert found['ollama_first_token_seconds_sum{model="m"}'] == 0.2
    assert found['ollama_token_gap_seconds_bucket{le="0.0025",model="m"}'] == 0
    assert found['ollama_token_gap_seconds_bucket{le="0.005",model="m"}'] == 1
    assert found['ollama_queue_wait_seconds_sum{model="m"}'] == 2
    assert found['ollama_load_seconds_sum{model="m"}'] == 3
    assert found["ollama_load_failures_total"] == 1


def test_the_number_of_models_with_a_label_is_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_MODELS + 50):
        metrics.model(f"m{number}").first_token.observe(1)
    metrics.model("m0").first_token.observe(1)
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    for name in ("first_token", "token_gap", "queue_wait", "load"):
        samples = families[f"ollama_{name}_seconds"].samples
        assert len({sample.labels["model"] for sample in samples}) == MAX_MODELS + 1
    counts = {
        sample.labels["model"]: sample.value
        for sample in families["ollama_first_token_seconds"].samples
        if sample.name.endswith("_count")
    }
    assert (counts["m0"], counts["m31"], counts["other"]) == (2, 1, 50)


def test_the_state_of_the_engine() -> None:
    metrics = Metrics()
    cache = PromptCacheFigures(lookups=6, slot_tokens=40, state_tokens=30, saves=2, restore_seconds=0.5)
    models = (LoadedModelState(100, 80, 4, 3), LoadedModelState(50, 0, 1, 0))
    metrics.watch(lambda: EngineState(5, models, 10, 25, cache, 7_000, 9_000))
    found = figures(metrics)
    assert found["ollama_queue_length"] == 5
    assert found["ollama_loaded_models"] == 2
    assert found["ollama_loaded_bytes"] == 150
    assert found["ollama_loaded_gpu_bytes"] == 80
    assert found["ollama_slots"] == 5
    assert found["ollama_slots_busy"] == 3
    assert found["ollama_decode_steps_total"] == 10
    assert found["ollama_decode_runs_total"] == 25
    assert found["ollama_prompt_cache_lookups_total"] == 6
    assert found['ollama_prompt_cache_tokens_total{tier="slot"}'] == 40
    assert found['ollama_prompt_cache_tokens_total{tier="state"}'] == 30
    assert found['ollama_prompt_cache_bytes{model="loaded"}'] == 7_000
    assert found['ollama_prompt_cache_bytes{model="unloaded"}'] == 9_000
    assert found["ollama_prompt_cache_saves_total"] == 2
    assert found["ollama_prompt_cache_restore_seconds_total"] == 0.5


def test_two_servers_have_separate_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.load_failed()
    assert figures(other)["ollama_load_failures_total"] == 0
