"""llama-server with a real model behind a front, alone and beside a server of this project."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from ollama_tw_upstream import UpstreamBackend

from ollama_tw.interfaces import IRunner, LoadPlan
from ollama_tw.testing.contract import BackendContract
from tests.helpers.models import WEATHER
from tests.helpers.process import ServerProcess
from tests.helpers.server import MODEL, Server, Stream, running
from tests.peers.conftest import PACKAGE

TOKENS = 150
"""Length of replies that a death interrupts."""

TOOLS = """\
{%- if tools %}{{ '<|im_start|>system\\n' }}Tools: <tools>
{%- for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}
</tools>
Call one as <tool_call>
{"name": ..., "arguments": ...}
</tool_call>{{ '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- (call.function.arguments | tojson) + '}\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


class LlamaServer(ServerProcess):
    """A llama-server with two slots of 2,048 tokens."""

    def __init__(self, home: Path, program: str, model: str, port: int = 0, template: str = "") -> None:
        options = ["--alias", MODEL, "--port", str(port), "-np", "2", "-c", "4096", "-t", "1"]
        if template:
            home.mkdir(parents=True, exist_ok=True)
            (home / "template.jinja").write_text(template)
            options += ["--chat-template-file", str(home / "template.jinja")]
        super().__init__(home, command=[program, "-m", model, *options])

    def ready(self) -> Self:
        """Wait until the model is loaded, and set ``url``."""
        self.url = self.wait_for(r"listening on (http://\S+)")[1]
        return self


Start = Callable[..., LlamaServer]


@pytest.fixture(scope="module")
def start(
    llama_server_program: str, smollm2_gguf: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Start]:
    """Return a function that starts a llama-server, which is killed after the tests."""
    started: list[LlamaServer] = []

    def begin(**arguments: Any) -> LlamaServer:
        home = tmp_path_factory.mktemp("llama-server")
        started.append(LlamaServer(home, llama_server_program, smollm2_gguf, **arguments))
        return started[-1].ready()

    yield begin
    for server in started:
        server.discard()


@pytest.fixture(scope="module")
def engine(start: Start) -> LlamaServer:
    return start()


class TestContract(BackendContract):
    control = "<|im_start|>"
    embeds = False

    @pytest.fixture(autouse=True)
    def upstream(self, engine: LlamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OLLAMA_TW_UPSTREAM", engine.url)

    def make_runner(self, slots: int) -> IRunner:
        backend = UpstreamBackend()
        (model,) = backend.models()
        return backend.load(LoadPlan(model.location, slots=slots, context_length=512), lambda done: True)


StartFront = Callable[..., Server]


@pytest.fixture(scope="module")
def start_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartFront]:
    """Return a function that starts a front of the servers with these addresses."""
    started: list[Server] = []

    def begin(*urls: str) -> Server:
        server = Server(
            tmp_path_factory.mktemp("front"),
            plugin_paths=[PACKAGE],
            OLLAMA_LLM_LIBRARY="cpu",
            OLLAMA_TW_UPSTREAM=" ".join(urls),
        )
        started.append(server)
        return server.ready()

    yield begin
    for server in started:
        server.discard()


@pytest.fixture(scope="module")
def front(engine: LlamaServer, start_front: StartFront) -> Server:
    return start_front(engine.url)


def test_a_chat_whole_and_streamed(front: Server) -> None:
    whole = front.chat("Name three colours.").json
    assert (whole["eval_count"], whole["done_reason"]) == (12, "length")
    # The prompt has the system text of the template.
    assert whole["prompt_eval_count"] > 30
    options = {"temperature": 0, "num_predict": 12}
    messages = [{"role": "user", "content": "Name three colours."}]
    with Stream(
        front.socket(), "/api/chat", {"model": MODEL, "messages": messages, "options": options}
    ) as one:
        records = one.rest()
    assert len(records) > 6
    assert "".join(record["message"]["content"] for record in records) == whole["message"]["content"]
    again = front.chat("Name three colours.", whole["message"]["content"], "And one more?").json
    assert again["prompt_cached_count"] >= whole["prompt_eval_count"]


def test_a_stop_string_is_not_part_of_the_reply(front: Server) -> None:
    options = {"temperature": 0, "num_predict": 40, "stop": ["six"]}
    reply = front.generate("Count: one, two, three,", raw=True, options=options).json
    assert reply["done_reason"] == "stop"
    assert "five" in reply["response"]
    assert "six" not in reply["response"]


def test_a_schema_is_kept(front: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "legs": {"enum": [2, 4]}},
        "required": ["name", "legs"],
        "additionalProperties": False,
    }
    options = {"temperature": 0, "num_predict": 100}
    reply = front.chat("Describe a dog as JSON.", format=schema, options=options).json
    content = json.loads(reply["message"]["content"])
    assert list(content) == ["name", "legs"]
    assert content["legs"] in (2, 4)


def test_a_tool_is_called(start: Start, start_front: StartFront) -> None:
    front = start_front(start(template=TOOLS).url)
    assert "tools" in front.post("/api/show", {"model": MODEL}).json["capabilities"]
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "How is the weather in Paris?"}],
        "tools": [WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
        "max_tokens": 100,
    }
    (choice,) = front.post("/v1/chat/completions", body).json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert isinstance(json.loads(call["function"]["arguments"])["city"], str)


def test_a_client_that_leaves_frees_the_slot(front: Server, engine: LlamaServer) -> None:
    before = engine.log.count("cancel task")
    stream = front.counting(-1)
    assert stream.record() is not None
    stream.close()
    engine.wait_for("cancel task", before + 1)


def test_its_death_beside_a_server_of_this_project(
    start: Start, start_front: StartFront, smollm2_gguf: str, tmp_path: Path
) -> None:
    variables = {"OLLAMA_LLM_LIBRARY": "cpu", "OLLAMA_NUM_PARALLEL": "2"}
    with running(tmp_path / "own", **variables) as own:
        own.create(MODEL, Path(smollm2_gguf).read_bytes())
        assert own.post("/api/generate", {"model": MODEL, "keep_alive": -1}).status == 200
        mortal = start()
        front = start_front(own.url, mortal.url)
        assert front.generate("Hi", raw=True).status == 200
        for server in (own, mortal):
            front.wait_for(f"{server.url} takes part in")
        (loaded,) = front.get("/api/ps").json["models"]
        assert loaded["slots"] == 4
        streams = [front.counting(TOKENS) for _ in range(4)]
        begun = [stream for stream in streams if stream.record()]
        # These wait for a slot.
        waiting = [front.counting(20) for _ in range(3)]
        mortal.send_signal(signal.SIGKILL)
        ends = [stream.rest()[-1] for stream in begun]
        broken = [end["error"] for end in ends if "error" in end]
        assert len(broken) == 2
        assert all("the reply broke off" in error for error in broken)
        assert [end["eval_count"] for end in ends if "error" not in end] == [TOKENS, TOKENS]
        assert [stream.rest()[-1]["eval_count"] for stream in waiting] == [20, 20, 20]
        for stream in (*streams, *waiting):
            stream.close()
        start(port=int(mortal.url.rpartition(":")[2]))
        front.wait_for(f"{mortal.url} takes part in", 2)
        states = {one["name"]: one["state"] for one in front.get("/api/ps").json["models"][0]["replicas"]}
        assert states == {own.url: "ready", mortal.url: "ready"}
