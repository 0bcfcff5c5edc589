"""Effects of the settings of scheduler and engine on a server process."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.process.harness import PuppetServer, make_model, serving

GIB = 1 << 30
CPU = ["CPU", "", "cpu", 16 * GIB, 16 * GIB]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_model(tmp_path / "home")
    return tmp_path / "home"


def answer(server: PuppetServer, **fields: Any) -> tuple[int, Any]:
    reply = server.generate(stream=False, **fields)
    body = reply.read_all().partition(b"\r\n\r\n")[2]
    return reply.status(), json.loads(body)


def test_settings_reach_the_engine(home: Path) -> None:
    settings = {
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
        "OLLAMA_FLASH_ATTENTION": "1",
        "OLLAMA_CONTEXT_LENGTH": "1024",
        "OLLAMA_NUM_PARALLEL": "3",
    }
    with serving(home, **settings) as server:
        server.open_gate()
        assert answer(server)[0] == 200
        (plan,) = server.plans()
        assert plan["kv_cache_type"] == "q8_0"
        assert plan["flash_attention"] is True
        assert plan["context_length"] == 1024
        assert plan["slots"] == 3
        server.wait_for("models run on backend puppet")
        (model,) = json.loads(server.get("/api/ps")[1])["models"]
        assert model["context_length"] == 1024
        assert server.metric("ollama_slots") == 3


def test_without_flash_attention_the_cache_is_f16(home: Path) -> None:
    with serving(home, OLLAMA_KV_CACHE_TYPE="q4_0", OLLAMA_FLASH_ATTENTION="0") as server:
        server.open_gate()
        assert answer(server)[0] == 200
        (plan,) = server.plans()
        assert (plan["kv_cache_type"], plan["flash_attention"]) == ("f16", False)
        server.wait_for(
            "K/V cache type q4_0 is not supported, using f16: a quantised K/V cache requires flash attention"
        )


@pytest.mark.parametrize(
    ("settings", "options", "layers", "split"),
    [
        ({}, {}, 2, [0, 2]),
        ({"OLLAMA_SCHED_SPREAD": "1"}, {}, 2, [1, 1]),
        ({"OLLAMA_GPU_OVERHEAD": "8000"}, {}, 0, []),
        ({}, {"main_gpu": 0}, 2, [2, 0]),
        ({}, {"num_gpu": 1}, 1, [0, 1]),
        ({}, {"num_gpu": 0}, 0, []),
    ],
)
def test_placement_of_layers(
    home: Path, settings: dict[str, str], options: dict[str, int], layers: int, split: list[int]
) -> None:
    with serving(home, **settings) as server:
        devices = [["G0", "", "gpu", 4 * GIB, 8 * GIB], ["G1", "", "gpu", 8 * GIB, 8 * GIB], CPU]
        (server.puppet / "devices.json").write_text(json.dumps(devices))
        server.open_gate()
        assert answer(server, options=options)[0] == 200
        (plan,) = server.plans()
        assert (plan["gpu_layers"], plan["tensor_split"]) == (layers, split)


def test_a_model_that_does_not_fit(home: Path) -> None:
    with serving(home) as server:
        (server.puppet / "devices.json").write_text(json.dumps([["CPU", "", "cpu", 1000, 16 * GIB]]))
        status, body = answer(server)
        assert status == 500
        assert body["error"].startswith("model requires more system memory (")
        assert body["error"].endswith(" GiB) than is available (0.0 GiB)")
        (server.puppet / "devices.json").write_text(json.dumps([CPU]))
        server.open_gate()
        assert answer(server)[0] == 200


def test_a_stalled_load_times_out_and_the_next_one_is_tried(home: Path) -> None:
    # Long enough for the second load, which reports no progress either while its thread is kept waiting.
    with serving(home, OLLAMA_LOAD_TIMEOUT="5s") as server:
        (server.puppet / "stall").touch()
        assert answer(server) == (
            500,
            {"error": "timed out waiting for llama-server to start - no progress for 5s at 42%"},
        )
        assert json.loads(server.get("/api/ps")[1]) == {"models": []}
        (server.puppet / "stall").unlink()
        server.open_gate()
        assert answer(server)[0] == 200


def test_a_failed_load_leaves_nothing(home: Path) -> None:
    with serving(home) as server:
        (server.puppet / "fail").write_text("this file is no model")
        assert answer(server) == (500, {"error": "this file is no model"})
        assert server.metric("ollama_load_failures_total") == 1
        assert server.metric("ollama_loaded_models") == 0
        (server.puppet / "fail").unlink()
        server.open_gate()
        assert answer(server)[0] == 200


def test_the_queue_is_bounded(home: Path) -> None:
    with serving(home, OLLAMA_MAX_QUEUE="1") as server:
        running = server.generate()
        running.read_until(b"word0")
        waiting = server.generate(stream=False)
        server.wait_until("ollama_queue_length", 1)
        surplus = server.generate(stream=False)
        head, _, body = surplus.read_all().partition(b"\r\n\r\n")
        assert surplus.status() == 503
        assert b"Retry-After: 1" in head
        assert json.loads(body) == {
            "error": "server busy, please try again.  maximum pending requests exceeded"
        }
        server.open_gate()
        for admitted in (running, waiting):
            admitted.read_all()
            assert admitted.status() == 200


def test_two_models_in_memory_and_one(home: Path) -> None:
    make_model(home, "other")
    for limit, both in (("2", ["other:latest", "tiny:latest"]), ("1", ["other:latest"])):
        with serving(home, OLLAMA_MAX_LOADED_MODELS=limit) as server:
            server.open_gate()
            assert answer(server)[0] == 200
            assert answer(server, model="other")[0] == 200
            models = json.loads(server.get("/api/ps")[1])["models"]
            assert sorted(model["name"] for model in models) == both


def test_metrics(home: Path) -> None:
    with serving(home) as server:
        server.open_gate()
        for _ in range(3):
            server.generate().read_all()
        server.get("/no/such/path")
        server.get("/another/one")
        assert server.metric('ollama_requests_total{route="/api/generate",status="200"}') == 3
        assert server.metric('ollama_requests_total{route="other",status="404"}') == 2
        assert server.metric('ollama_first_token_seconds_count{model="tiny:latest"}') == 3
        # Each reply has twenty pieces of text.
        assert server.metric('ollama_token_gap_seconds_count{model="tiny:latest"}') == 57
        assert server.metric("ollama_prompt_tokens_total") == 9
        assert server.metric("ollama_prompt_cached_tokens_total") == 3
        assert server.metric("ollama_output_tokens_total") == 60
        assert server.metric('ollama_load_seconds_count{model="tiny:latest"}') == 1
        assert server.metric('ollama_queue_wait_seconds_count{model="tiny:latest"}') == 1
        assert server.metric("ollama_loaded_models") == 1
        assert server.metric("ollama_loaded_bytes") == 1048576
        assert server.get("/readyz") == (200, b"ready\n")


def test_the_log_is_json_from_the_first_line_to_the_last(home: Path) -> None:
    secret = "the-words-of-the-prompt"
    with serving(home, OLLAMA_LOG_FORMAT="json", OLLAMA_DEBUG="1") as server:
        server.open_gate()
        server.generate(prompt=secret).read_all()
        server.stop()
        lines = [json.loads(line) for line in server.log.splitlines()]
    assert {"time", "level", "source", "msg"} <= set.intersection(*map(set, lines))
    (access,) = (line for line in lines if line.get("path") == "/api/generate")
    assert (access["status"], access["method"], access["model"], access["tokens"]) == (
        *(200, "POST"),
        *("tiny:latest", 20),
    )
    assert secret not in server.log
