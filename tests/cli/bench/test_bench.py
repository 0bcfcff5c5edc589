"""``ollama bench`` against small servers with fixed replies."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.cli.conftest import Ollama, Result, runner
from tests.cli.test_failures import NOT_RUNNING
from tests.helpers.threads import serve_on_thread

QUICK = ("--requests", "1", "--clients", "1,2", "--tokens", "3", "--scenario", "plain")
SVG = "{http://www.w3.org/2000/svg}"


class Handler(BaseHTTPRequestHandler):
    """A server of both APIs with the model ``m``, which keeps the requests."""

    is_ollama = True
    requests: ClassVar[list[tuple[str, dict[str, Any], str | None]]] = []

    def do_HEAD(self) -> None:
        self.reply(200, b"")

    def do_GET(self) -> None:
        self.reply(*((200, b'{"version":"1"}') if self.is_ollama else (404, b"{}")))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.path, body, self.headers["Authorization"]))
        if body["model"] != "m":
            self.reply(404, b'{"error":"model \'x\' not found"}')
        elif self.path == "/api/generate":
            count = body["options"]["num_predict"]
            last = {"done": True, "eval_count": count, "prompt_eval_count": 9, "response": ""}
            records = [{"response": "a"}] * count + [last]
            self.reply(200, b"".join(json.dumps(record).encode() + b"\n" for record in records))
        else:
            chat = self.path == "/v1/chat/completions"
            piece = {"delta": {"content": "a"}} if chat else {"text": "a"}
            usage = {"completion_tokens": body["max_tokens"], "prompt_tokens": 9}
            records = [{"choices": [piece]}] * body["max_tokens"] + [{"choices": [], "usage": usage}]
            lines = [f"data: {json.dumps(record)}\n\n" for record in records]
            self.reply(200, "".join([*lines, "data: [DONE]\n\n"]).encode())

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class OpenAIHandler(Handler):
    is_ollama = False
    requests: ClassVar[list[tuple[str, dict[str, Any], str | None]]] = []


@pytest.fixture
def addresses() -> Iterator[tuple[str, str]]:
    """Return the URLs of a server of Ollama's API and of one of OpenAI's."""
    Handler.requests.clear()
    OpenAIHandler.requests.clear()
    with (
        serve_on_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as first,
        serve_on_thread(ThreadingHTTPServer(("127.0.0.1", 0), OpenAIHandler)) as second,
    ):
        yield f"http://{first}", f"http://{second}"


@pytest.fixture
def ollama(tmp_path: Path, addresses: tuple[str, str]) -> Ollama:
    return runner(tmp_path, addresses[0])


def test_a_table_of_the_server_of_the_environment(ollama: Ollama, addresses: tuple[str, str]) -> None:
    result = ollama("bench", "m", *QUICK, OLLAMA_API_KEY="secret")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].strip() == f"m at {addresses[0]}"
    header = next(line for line in lines if "Tokens/s" in line).split()
    assert header[:4] == ["Scenario", "Clients", "Tokens/s", "First"]
    rows = [line.split() for line in lines if line.rstrip().endswith(" 3")]
    assert [row[:2] for row in rows[:1]] == [["plain", "1"]]
    assert rows[1][0] == "2"
    assert float(rows[0][2].replace(",", "")) > 0
    assert {request[2] for request in Handler.requests} == {"Bearer secret"}
    # One to see that it answers, one of each client to warm up, one of each to measure.
    assert len(Handler.requests) == 1 + 2 + 4


def test_servers_are_recognised_and_compared(
    ollama: Ollama, addresses: tuple[str, str], tmp_path: Path
) -> None:
    urls = [word for url in addresses for word in ("--url", url)]
    result = ollama(
        "bench", "m", *urls, *QUICK, "--plot", "figures.svg", "--markdown", OLLAMA_API_KEY="secret"
    )
    assert result.code == 0
    assert {request[0] for request in Handler.requests} == {"/api/generate"}
    assert {request[0] for request in OpenAIHandler.requests} == {"/v1/completions"}
    # The key is the one of OLLAMA_HOST.
    assert {request[2] for request in Handler.requests + OpenAIHandler.requests} == {None}
    names = [address.removeprefix("http://") for address in addresses]
    assert f"| plain | 2 | {names[0]} : {names[1]} |" in result.out
    document = ElementTree.parse(tmp_path / "figures.svg")  # noqa: S314 - written by the program
    texts = [element.text for element in document.iter(f"{SVG}text")]
    assert names[0] in texts
    assert "Output (tokens/s)" in texts
    assert texts.count("plain, 2 clients") == 3
    widths = [float(element.get("width", "")) for element in document.iter(f"{SVG}rect") if element.get("x")]
    # The longest bar of a chart fills the room that all have.
    assert max(widths) == 442


def test_other_servers_have_keys_of_their_own(ollama: Ollama, addresses: tuple[str, str]) -> None:
    # The base URL is that of OpenAI's clients.
    url = f"chat:openai-chat={addresses[1]}/v1/,model=m,key=OTHER_KEY"
    result = ollama("bench", "ignored", "--url", url, *QUICK, "--json", OTHER_KEY="other")
    assert result.code == 0
    [first, second] = json.loads(result.out)["cells"]
    assert (first["clients"], second["clients"]) == (1, 2)
    assert first["servers"]["chat"]["median"]["output_tokens"] == 3
    assert {(path, key) for path, _, key in OpenAIHandler.requests} == {
        ("/v1/chat/completions", "Bearer other")
    }
    assert all("ignore_eos" not in body for _, body, _ in OpenAIHandler.requests)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["m", "--scenario", "odd"], 'unknown scenario "odd": choose from plain, sparse, shared-prefix'),
        (["m", "--clients", "1,0"], 'invalid argument "0" for "--clients" flag: it must be at least 1'),
        (["m", "--requests", "x"], 'invalid argument "x" for "--requests" flag: strconv.ParseInt'),
        (["m", "--plot", "a.png"], "--plot writes SVG: a.png does not end with .svg"),
        (["m", "--url", "soap=http://h"], "soap=http://h: unknown dialect 'soap'"),
        (
            ["m", "--url", "ollama=http://h,key=NO_SUCH"],
            "ollama=http://h,key=NO_SUCH: the environment variable",
        ),
        (["m", "--url", "http://127.0.0.1:1"], "http://127.0.0.1:1: could not connect"),
        ([], "accepts 1 arg(s), received 0"),
    ],
)
def test_invalid_arguments(ollama: Ollama, arguments: list[str], error: str) -> None:
    result = ollama("bench", *arguments)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith(f"Error: {error}")


def test_an_unknown_model_is_one_line(ollama: Ollama, addresses: tuple[str, str]) -> None:
    assert ollama("bench", "x") == Result(1, "", f"Error: {addresses[0]}: 404 model 'x' not found\n")


def test_without_a_server(tmp_path: Path) -> None:
    assert runner(tmp_path, "127.0.0.1:1")("bench", "m") == Result(1, "", NOT_RUNNING)
