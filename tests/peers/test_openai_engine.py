"""A server with the API of vLLM: a stand-in with the fields that vLLM documents.

Source: vllm: vllm/entrypoints/serve/tokenize/protocol.py, vllm/entrypoints/openai/completion/protocol.py.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from ollama_tw_upstream import UpstreamBackend

from ollama_tw.interfaces import DoneReason, IRunner, Job, LoadError, LoadPlan, Sampling


class StandIn(ThreadingHTTPServer):
    """Server of one model whose tokens are code points; its replies are ``pieces``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.health = 200
        self.pieces = [" 0", " 1", " 2"]
        self.bodies: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log."""

    def do_GET(self) -> None:
        if self.path == "/health":
            self._reply(self.server.health)
        elif self.path == "/v1/models":
            self._reply(200, {"object": "list", "data": [{"id": "org/model", "max_model_len": 512}]})
        else:
            self._reply(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            tokens = [1] * body["add_special_tokens"] + [ord(one) for one in body["prompt"]]
            self._reply(200, {"count": len(tokens), "max_model_len": 512, "tokens": tokens})
        elif self.path == "/detokenize":
            self._reply(200, {"prompt": "".join(map(chr, body["tokens"]))})
        else:
            self.server.bodies.append(body)
            choices = [{"index": 0, "text": text, "finish_reason": None} for text in self.server.pieces]
            choices[-1]["finish_reason"] = "stop"
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(choices)}
            events = [*({"choices": [one]} for one in choices), {"choices": [], "usage": usage}]
            data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
            self._send(200, data.encode())

    def _reply(self, status: int, value: Any = None) -> None:
        self._send(status, b"" if value is None else json.dumps(value).encode())

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with StandIn() as started:
        thread = Thread(target=started.serve_forever)
        thread.start()
        monkeypatch.setenv("OLLAMA_TW_UPSTREAM", f"{started.url}?lanes=3")
        yield started
        started.shutdown()
        thread.join()


@pytest.fixture
def runner(server: StandIn) -> Iterator[IRunner]:
    backend = UpstreamBackend()
    (model,) = backend.models()
    assert (model.name, model.metadata["remote.context_length"]) == ("org/model", 512)
    loaded = backend.load(LoadPlan(model.location, slots=1, context_length=2048), lambda done: True)
    with closing(loaded):
        yield loaded


def test_a_prompt_is_sent_as_tokens(runner: IRunner, server: StandIn) -> None:
    assert (runner.slots, runner.context_length, runner.adds_bos) == (3, 512, True)
    sampling = Sampling(temperature=0.5, top_k=7, min_p=0.25, repeat_penalty=1.5, seed=3)
    job = Job("ab", sampling, max_tokens=9, preserved=("<tool_call>",))
    *pieces, last = runner.generate(job)
    assert "".join(piece.text for piece in pieces) + last.text == " 0 1 2"
    assert last.done is DoneReason.STOP
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.output_tokens) == (3, 3)
    (body,) = server.bodies
    assert (body["model"], body["prompt"], body["max_tokens"]) == ("org/model", [1, 97, 98], 9)
    assert (body["temperature"], body["top_k"], body["min_p"]) == (0.5, 7, 0.25)
    assert (body["repetition_penalty"], body["seed"], body["skip_special_tokens"]) == (1.5, 3, False)


def test_a_stop_string_ends_the_reply(runner: IRunner) -> None:
    pieces = list(runner.generate(Job("ab", stop=(" 1 2",))))
    assert "".join(piece.text for piece in pieces) == " 0"
    assert pieces[-1].done is DoneReason.STOP


def test_a_server_that_is_not_healthy_gets_no_jobs(server: StandIn) -> None:
    server.health = 503
    backend = UpstreamBackend()
    (model,) = backend.models()
    with pytest.raises(LoadError, match=r"no server can run the model now: .* it loads its model"):
        backend.load(LoadPlan(model.location), lambda done: True)
