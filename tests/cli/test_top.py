"""``ollama top`` on a pseudo-terminal and in a pipe, against servers with more and fewer endpoints."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ollama_tw.cli.top.screen import screen
from ollama_tw.cli.top.snapshot import Snapshot, parse_metrics
from tests.cli.conftest import PROGRAM, Ollama, runner
from tests.cli.test_failures import NOT_RUNNING
from tests.helpers import PATIENCE
from tests.helpers.process import environment
from tests.helpers.terminal import Terminal
from tests.helpers.threads import serve_on_thread

MODEL = {
    "name": "llama3:8b",
    "size": 5_000_000_000,
    "size_vram": 4_000_000_000,
    "context_length": 8192,
    "expires_at": "2318-01-01T00:00:00Z",
}
DECODING = {
    "id": "abc",
    "model": "llama3:8b",
    "client": "10.0.0.7",
    "endpoint": "/api/chat",
    "age": 75.2,
    "phase": "decode",
    "prompt_tokens": 1200,
    "prompt_done": 1200,
    "tokens": 240,
    "tokens_per_second": 35.25,
}
READING = {**DECODING, "id": "def", "age": 2.0, "phase": "prefill", "prompt_done": 400, "tokens": 0,
           "tokens_per_second": 0}  # fmt: skip
WAITING = {**READING, "id": "ghi", "phase": "queued", "position": 3, "prompt_tokens": 0, "prompt_done": 0}
METRICS = '# HELP x y\nollama_slots 4.0\nollama_slots_busy 2.0\nollama_queue_length 1.0\nollama_a{b="c"} 1\n'


class Handler(BaseHTTPRequestHandler):
    """A server whose replies by path are ``replies``; other paths are missing."""

    replies: ClassVar[dict[str, Any]] = {}

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        reply = self.replies.get(self.path)
        body = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
        self.send_response(404 if reply is None else 200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    replies = {
        "/api/ps": {"models": [MODEL]},
        "/api/requests": {"requests": [DECODING, READING, WAITING]},
        "/metrics": METRICS,
    }
    monkeypatch.setattr(Handler, "replies", replies)
    with serve_on_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as host:
        yield f"http://{host}"


@pytest.fixture
def ollama(tmp_path: Path, address: str) -> Ollama:
    return runner(tmp_path, address)


def test_a_pipe_gets_the_state_once(ollama: Ollama) -> None:
    result = ollama("top")
    assert (result.code, result.err) == (0, "")
    assert [" ".join(line.split()) for line in result.out.splitlines()] == [
        "slots 2 of 4 queued 1 35.2 tokens/s memory 5 GB (4 GB on GPUs)",
        "",
        "MODEL SIZE PROCESSOR CONTEXT UNTIL",
        "llama3:8b 5 GB 20%/80% CPU/GPU 8192 Forever",
        "",
        "AGE MODEL PHASE PROMPT TOKENS TOKENS/S CLIENT ENDPOINT ID",
        "1m15s llama3:8b decode 1200 240 35.2 10.0.0.7 /api/chat abc",
        "2s llama3:8b prefill 400/1200 0 0.0 10.0.0.7 /api/chat def",
        "2s llama3:8b queued 3 - 0 0.0 10.0.0.7 /api/chat ghi",
    ]
    printed = json.loads(ollama("top", "--json").out)
    assert printed["requests"][0]["id"] == "abc"
    assert printed["metrics"] == {"ollama_slots": 4, "ollama_slots_busy": 2, "ollama_queue_length": 1}


def test_a_server_that_has_only_the_models(ollama: Ollama, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "replies", {"/api/ps": {"models": []}})
    assert ollama("top").out.splitlines() == [
        "memory 0 B",
        "",
        "MODEL                                SIZE  PROCESSOR         CONTEXT  UNTIL",
        "no model is loaded",
    ]


@pytest.mark.parametrize("arguments", [["top"], ["top", "--json"]])
def test_a_failure_in_a_pipe_is_an_error(
    ollama: Ollama, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(Handler, "replies", {})
    result = ollama(*arguments)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith("Error: ")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_lines_fit_and_columns_keep_their_places(columns: int) -> None:
    long = {**DECODING, "model": "模型" * 30, "client": "x" * 90}
    lines = [
        line.text
        for line in screen(
            Snapshot([MODEL], [DECODING, long], parse_metrics(METRICS)), "http://h:1", columns, 24
        )
    ]
    assert max(map(len, lines)) <= columns
    title, first, second = lines[-3:]
    assert title.startswith("   AGE  MODEL")
    assert first.startswith(" 1m15s  llama3:8b")
    assert second.startswith(" 1m15s  模型")
    assert ("CLIENT" in title) == (columns >= 100)


def test_more_requests_than_lines() -> None:
    texts = [line.text for line in screen(Snapshot([MODEL], [DECODING] * 50), "http://h:1", 80, 10)]
    assert len(texts) == 10
    assert texts[-1] == "48 more lines do not fit"


@pytest.fixture
def terminal(tmp_path: Path, address: str) -> Iterator[Terminal]:
    variables = environment(tmp_path, {"OLLAMA_HOST": address})
    opened = Terminal([*PROGRAM, "top"], tmp_path, variables, columns=100)
    yield opened
    opened.discard()


@pytest.mark.parametrize("key", ["q", "\x03"])
def test_the_screen_is_updated_and_the_terminal_restored(terminal: Terminal, address: str, key: str) -> None:
    terminal.wait_for("1m15s  llama3:8b")
    assert terminal.lines[0].startswith(f"{address}   q quits")
    Handler.replies["/api/requests"] = {"requests": [{**DECODING, "age": 80}]}
    terminal.wait_for("1m20s  llama3:8b")
    terminal.wait_until(lambda shown: "1m15s" not in shown and "prefill" not in shown)
    terminal.type(key)
    terminal.process.wait(PATIENCE)
    assert terminal.is_restored()
    assert terminal.wait() == 0
    assert "\x1b[?1049l" in terminal.output


def test_a_server_that_ends_is_reported_on_the_screen(
    tmp_path: Path, address: str, terminal: Terminal
) -> None:
    terminal.wait_for("llama3:8b")
    Handler.replies["/api/ps"] = None
    terminal.wait_until(lambda shown: "404" in shown or "null" in shown)
    Handler.replies["/api/ps"] = {"models": [MODEL]}
    terminal.wait_for("1m15s  llama3:8b")
    terminal.type("q")
    assert terminal.wait() == 0


def test_without_a_server(tmp_path: Path) -> None:
    result = runner(tmp_path, "127.0.0.1:1")("top")
    assert (result.code, result.out, result.err) == (1, "", NOT_RUNNING)
