"""Servers that are absent, wrong or break off, and closed standard streams: one line, the right status."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM, Ollama, Result, runner
from tests.helpers import PATIENCE
from tests.helpers.process import environment
from tests.helpers.server import Server
from tests.helpers.threads import serve_on_thread

NOT_RUNNING = "Error: could not connect to ollama server, run 'ollama serve' to start it\n"
EVERY = (
    *(["list"], ["ps"], ["show", "m"], ["cp", "a", "b"], ["rm", "m"], ["stop", "m"], ["pull", "m"]),
    *(["push", "m"], ["create", "m"], ["run", "m", "hi"], ["signin"], ["signout"]),
)
Reply = tuple[int, str, bytes]
"""Status, content type and body."""


@pytest.fixture
def nowhere(tmp_path: Path) -> Iterator[Ollama]:
    """Return a function that runs a command line where no server listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        # Bound and not listening: connections are refused, and no other program gets the port.
        yield runner(tmp_path, f"127.0.0.1:{unused.getsockname()[1]}")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Ollama]]:
    """Return a function that starts a server with replies by path; "" is any other path.

    The requests are in its attribute ``requests``: method, path, headers.
    """

    def start(replies: dict[str, Reply], prefix: str = "") -> Ollama:
        class Handler(BaseHTTPRequestHandler):
            def reply(self) -> None:
                seen.append((self.command, self.path, dict(self.headers)))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, kind, body = replies.get(self.path) or replies.get("") or (200, "text/plain", b"")
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_POST = do_DELETE = do_HEAD = reply

            def log_message(self, *args: object) -> None:
                pass

        host = servers.enter_context(serve_on_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)))
        return runner(tmp_path, f"http://{host}{prefix}")

    seen: list[tuple[str, str, dict[str, str]]] = []
    start.requests = seen  # type: ignore[attr-defined]
    with ExitStack() as servers:
        yield start


@pytest.mark.parametrize("arguments", EVERY, ids=lambda words: words[0])
def test_without_a_server_every_command_says_how_to_start_one(nowhere: Ollama, arguments: list[str]) -> None:
    assert nowhere(*arguments) == Result(1, "", NOT_RUNNING)


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("no-such-host.invalid", "could not connect to http://no-such-host.invalid:11434: no such host"),
        ("ftp://x", ""),
    ],
)
def test_wrong_hosts(tmp_path: Path, host: str, error: str) -> None:
    result = runner(tmp_path, host)("list")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith(f"Error: {error}")
    assert "Traceback" not in result.err


@pytest.mark.parametrize("arguments", EVERY, ids=lambda words: words[0])
def test_a_proxy_that_answers_with_a_page(
    serving: Callable[..., Ollama], tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "Modelfile").write_text("FROM m\n")
    page = (502, "text/html", b"<html>\n<body>\nBad Gateway\n</body>\n</html>")
    result = serving({"": page, "/": (200, "text/plain", b"")})(*arguments)
    assert result.code == 1
    assert result.err.splitlines()[-1].endswith("answered with status 502 Bad Gateway")
    assert result.err.startswith("Error: http://127.0.0.1:") or arguments[0] == "rm"


def test_a_server_that_is_not_ollama(serving: Callable[..., Ollama]) -> None:
    result = serving({"": (404, "text/html", b"<html>")})("list")
    assert result.code == 1
    assert result.err.endswith(
        "answered with status 404 Not Found: check OLLAMA_HOST and the proxy settings\n"
    )


@pytest.mark.parametrize("arguments", EVERY, ids=lambda words: words[0])
def test_a_redirection_is_no_success(
    serving: Callable[..., Ollama], tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "Modelfile").write_text("FROM m\n")
    result = serving({"": (301, "text/plain", b"")})(*arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Error: http://127.0.0.1:")
    assert result.err.endswith(": set OLLAMA_HOST to the server's address\n")
    assert result.err.count("\n") == 1


def test_a_server_that_does_not_speak_http(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert runner(tmp_path, address)("list") == Result(
            1, "", f"Error: http://{address} is not an HTTP server\n"
        )
        thread.join()


def test_https_to_a_server_without_tls(tmp_path: Path, scripted: Server) -> None:
    result = runner(tmp_path, scripted.url.replace("http:", "https:"))("list")
    assert result.code == 1
    assert result.err.startswith("Error: could not connect to https://127.0.0.1:")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("records", "error"),
    [
        ([{"response": "Half an", "done": False}], "the server ended the answer before it was complete"),
        ([{"response": "Half an", "done": False}, {"error": "model 'm' not found"}], "model 'm' not found"),
        (["<html>"], "answered with something other than JSON"),
    ],
)
def test_an_answer_that_breaks_off(serving: Callable[..., Ollama], records: list[object], error: str) -> None:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    stream = "".join(f"{line}\n" for line in lines).encode()
    ollama = serving(
        {
            "/api/generate": (200, "application/x-ndjson", stream),
            "/api/show": (200, "application/json", b"{}"),
        }
    )
    result = ollama("run", "m", "hi")
    assert result.code == 1
    assert result.err.startswith("Error: ")
    assert result.err.endswith(f"{error}\n")
    assert result.err.count("\n") == 1


def test_a_server_that_dies_in_the_middle_of_a_chunk(tmp_path: Path) -> None:
    replies = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"response":"Half"}\n',
    ]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for reply in replies:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        result = runner(tmp_path, f"127.0.0.1:{server.getsockname()[1]}")("run", "m", "hi")
        thread.join()
    assert result == Result(
        1, "Half", "Error: the server closed the connection before the reply was complete\n"
    )


def test_a_pull_that_ends_without_success(serving: Callable[..., Ollama]) -> None:
    stream = b'{"status":"pulling manifest"}\n'
    result = serving({"/api/pull": (200, "application/x-ndjson", stream)})("pull", "m")
    assert result == Result(1, "", "Error: the server ended the pull before it was complete\n")


@pytest.mark.parametrize("command", ["pull", "push"])
def test_errors_of_streams_have_their_status(serving: Callable[..., Ollama], command: str) -> None:
    error = (400, "application/json", b'{"error":"invalid model name"}')
    ollama = serving({f"/api/{command}": error, "/api/me": (200, "application/json", b"{}")})
    assert ollama(command, "m") == Result(1, "", "Error: 400 Bad Request: invalid model name\n")


def test_push_and_signin_without_an_account_print_the_address(serving: Callable[..., Ollama]) -> None:
    error = {"error": "unauthorized", "signin_url": "https://ollama.com/connect?name=x&key=y"}
    ollama = serving({"": (401, "application/json", json.dumps(error).encode()), "/": (200, "", b"")})
    where = "If your browser did not open, navigate to:\n    https://ollama.com/connect?name=x&key=y\n\n"
    assert ollama("push", "me/m") == Result(
        0, f"You need to be signed in to push models to ollama.com.\n\n{where}", ""
    )
    assert ollama("signin") == Result(
        0, f"You need to be signed in to Ollama to run Cloud models.\n\n{where}", ""
    )
    assert ollama("signout") == Result(0, "You are not signed in to ollama.com\n\n", "")


@pytest.mark.parametrize(
    ("disabled", "remedy"),
    [
        (False, "the server cannot reach ollama.com: check its network, and HTTPS_PROXY for a proxy"),
        (True, "the server is set up not to use ollama.com (OLLAMA_NO_CLOUD, or ~/.ollama/server.json)"),
    ],
)
def test_without_network_commands_of_the_account_say_what_to_do(
    serving: Callable[..., Ollama], disabled: bool, remedy: str
) -> None:
    status = json.dumps({"cloud": {"disabled": disabled, "source": "env"}}).encode()
    ollama = serving(
        {
            "/api/me": (503, "application/json", b'{"error":"account unavailable"}'),
            "/api/signout": (500, "application/json", b'{"error":"there was an error signing out"}'),
            "/api/status": (200, "application/json", status),
        }
    )
    for command in (("signin",), ("push", "me/m")):
        assert ollama(*command) == Result(1, "", f"Error: account unavailable: {remedy}\n")
    assert ollama("signout") == Result(1, "", f"Error: there was an error signing out: {remedy}\n")


def test_push_prints_where_the_model_is(serving: Callable[..., Ollama]) -> None:
    success = (200, "application/x-ndjson", b'{"status":"success"}\n')
    ollama = serving({"/api/push": success, "/api/me": (200, "application/json", b'{"name":"me"}')})
    assert ollama("push", "me/m").out == "\nYou can find your model at:\n\n\thttps://ollama.com/me/m\n"
    assert ollama("push", "h.example:5000/me/m").out.endswith("\n\n\th.example:5000/me/m:latest\n")
    assert ollama("signin").out == "You are already signed in as user 'me'\n\n"
    assert ollama("signout").out == "You have signed out of ollama.com\n\n"


def test_a_refused_push(serving: Callable[..., Ollama]) -> None:
    refusal = (200, "application/x-ndjson", b'{"status":"x"}\n{"error":"unauthorized: access denied"}\n')
    ollama = serving({"/api/push": refusal, "/api/me": (200, "application/json", b"{}")})
    assert ollama("push", "them/m").err == (
        "Error: you are not authorized to push to this namespace, "
        "create the model under a namespace you own\n"
    )


def test_the_path_and_the_key_of_the_environment(serving: Callable[..., Ollama]) -> None:
    ollama = serving({"/base/api/tags": (200, "application/json", b'{"models":[]}')}, "/base/")
    assert ollama("list", OLLAMA_API_KEY="secret").code == 0
    requests = serving.requests  # type: ignore[attr-defined]
    assert [(method, path) for method, path, _ in requests] == [("HEAD", "/base/"), ("GET", "/base/api/tags")]
    assert {headers["Authorization"] for _, _, headers in requests} == {"Bearer secret"}


def test_other_machines_are_reached_through_the_proxy(serving: Callable[..., Ollama], tmp_path: Path) -> None:
    serving({"": (200, "application/json", b'{"models":[]}')})("list")
    requests = serving.requests  # type: ignore[attr-defined]
    proxy = f"http://user:pass@{requests[0][2]['Host']}"
    del requests[:]
    remote = runner(tmp_path, "http://ollama.example:1234")
    assert remote("list", http_proxy=proxy).code == 0
    assert [path for _, path, _ in requests] == [
        "http://ollama.example:1234/",
        "http://ollama.example:1234/api/tags",
    ]
    assert requests[0][2]["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"
    assert remote("list", http_proxy=proxy, no_proxy="ollama.example").code == 1


def test_a_closed_pipe_is_silent(scripted: Server, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = subprocess.run(
        [*PROGRAM, "show", "m", "-v"],
        env=environment(tmp_path, {"OLLAMA_HOST": scripted.url}),
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
    )
    os.close(write)
    assert (command.returncode, command.stderr) == (141, b"")


@pytest.mark.parametrize(("closed", "code"), [("<&-", 0), (">&-", 0), ("2>&-", 0)])
def test_closed_standard_streams(scripted: Server, tmp_path: Path, closed: str, code: int) -> None:
    command = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {closed}', "sh", *PROGRAM, "run", "m", "SAY hi"],
        env=environment(tmp_path, {"OLLAMA_HOST": scripted.url}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (command.returncode, command.stderr) == (code, b"")
