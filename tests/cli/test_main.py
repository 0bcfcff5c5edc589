import json
import re
import socket
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

import click
import pytest

from ollama_tw.cli import main as module
from ollama_tw.cli.command import Command
from ollama_tw.cli.main import main
from ollama_tw.config.settings import Settings
from ollama_tw.configfile.load import Configuration
from ollama_tw.errors import OllamaError
from ollama_tw.llama import discovery
from ollama_tw.process import logs
from tests.helpers.threads import serve_on_thread


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in ("OLLAMA_HOST", "OLLAMA_ORIGINS", "OLLAMA_MAX_QUEUE", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command line: exit status, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert isinstance(exit.value.code, int)
        output = capsys.readouterr()
        return exit.value.code, output.out, output.err

    return run


Run = Callable[..., tuple[int, str, str]]
CLIENT = "Warning: client version is 0.34.2 (ollama_tw 0.6.0)\n"
Answering = Callable[..., None]
"""Sets the status, the body and, optionally, the Server header of the reply."""


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["serve", "x"], "accepts 0 arg(s), received 1"),
        (["start", "x", "y"], "accepts 0 arg(s), received 2"),
        (["frobnicate"], 'unknown command "frobnicate" for "ollama"'),
        (["sev"], 'unknown command "sev" for "ollama"\n\nDid you mean this?\n\tserve\n'),
        (["ser"], 'unknown command "ser" for "ollama"\n\nDid you mean this?\n\tserve\n'),
        (["serve", "--frob"], "unknown flag: --frob"),
        (["serve", "--frob=1"], "unknown flag: --frob"),
        (["--frob"], "unknown flag: --frob"),
        (["serve", "-x"], "unknown shorthand flag: 'x' in -x"),
    ],
)
def test_a_wrong_command_line_is_one_error_without_usage(run: Run, arguments: list[str], error: str) -> None:
    assert run(*arguments) == (1, "", f"Error: {error}\n")


@pytest.mark.parametrize("flags", [["--verbose"], ["--nowordwrap", "--verbose"]])
def test_flags_without_a_command_list_the_commands(run: Run, flags: list[str]) -> None:
    code, out, err = run(*flags)
    assert (code, err) == (0, "")
    assert out == run()[1]


def test_flags_before_a_command_are_the_command_s(run: Run) -> None:
    assert run("--nowordwrap", "serve") == (1, "", "Error: unknown flag: --nowordwrap\n")
    # A command that has the flag takes it.
    assert (
        run("--verbose", "--nowordwrap", "run")[2] == "Error: requires at least 1 arg(s), only received 0\n"
    )


def test_without_a_command_the_commands_are_listed(run: Run) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    assert re.search(r"^  serve +Start Ollama$", out, re.M)


def test_the_help_imports_no_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ollama_tw.cli.commands.")]:
        monkeypatch.delitem(sys.modules, name)
    assert "Run a model" in run("--help")[1]
    assert not [name for name in sys.modules if name.startswith("ollama_tw.cli.commands.")]


def test_help_of_serve_documents_every_variable_in_a_column(run: Run) -> None:
    code, out, _ = run("serve", "--help")
    assert code == 0
    lines = out[out.index("Environment Variables:") :].splitlines()
    named = [line.split()[0] for line in lines if line.startswith("  OLLAMA_")]
    assert named == [
        "OLLAMA_HOST",
        "OLLAMA_CONFIG",
        "OLLAMA_ORIGINS",
        "OLLAMA_DEBUG",
        "OLLAMA_LOG_FORMAT",
        "OLLAMA_MODELS",
        "OLLAMA_KEEP_ALIVE",
        "OLLAMA_MAX_LOADED_MODELS",
        "OLLAMA_MAX_QUEUE",
        "OLLAMA_NOPRUNE",
        "OLLAMA_CONTEXT_LENGTH",
        "OLLAMA_NUM_PARALLEL",
        "OLLAMA_SCHED_SPREAD",
        "OLLAMA_FLASH_ATTENTION",
        "OLLAMA_GO_TEMPLATE",
        "OLLAMA_KV_CACHE_TYPE",
        "OLLAMA_PROMPT_CACHE",
        "OLLAMA_PROMPT_CACHE_DISK",
        "OLLAMA_PROMPT_CACHE_SHARED",
        "OLLAMA_STEP_TARGET",
        "OLLAMA_SPECULATION",
        "OLLAMA_GPU_OVERHEAD",
        "OLLAMA_LOAD_TIMEOUT",
        "OLLAMA_LLM_LIBRARY",
        "OLLAMA_RUNNER",
        "OLLAMA_SPECIAL_TOKENS",
        "OLLAMA_NO_CLOUD",
        "OLLAMA_REMOTES",
        "OLLAMA_CLOUD_BASE_URL",
        "OLLAMA_DRAIN_TIMEOUT",
        "OLLAMA_REQUIRE_KEYS",
        "OLLAMA_UI",
        "OLLAMA_VERSION",
    ]
    columns = {len(line) - len(line[2:].partition(" ")[2].lstrip()) for line in lines if "OLLAMA_" in line}
    assert columns == {30}
    assert "Maximum number of waiting requests (default 512)" in out


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Return the list of settings with which the daemon was run; the daemon exits with 3."""
    calls: list[Settings] = []
    daemon = types.ModuleType("ollama_tw.server.daemon")

    def run(
        configuration: Configuration, reread: Callable[[], Configuration], sockets: Sequence[socket.socket]
    ) -> int:
        assert reread() == configuration
        calls.append(configuration.settings)
        return 3

    daemon.run = run  # type: ignore[attr-defined]
    # Devices that a child process lists would stay the result of the first probes of this process.
    monkeypatch.setattr(discovery, "begin", lambda: None)
    monkeypatch.setitem(sys.modules, "ollama_tw.server.daemon", daemon)
    monkeypatch.setattr(logs, "start", lambda settings: None)
    return calls


@pytest.mark.parametrize("name", ["serve", "start"])
def test_serve_runs_the_daemon_and_exits_with_its_code(
    run: Run, served: list[Settings], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0:8080")
    assert run(name) == (3, "", "")
    assert [(settings.host, settings.port) for settings in served] == [("0.0.0.0", 8080)]


def test_serve_does_not_start_with_a_malformed_origin(
    run: Run, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_ORIGINS", "nonsense")
    code, out, err = run("serve")
    assert (code, out, served) == (1, "", [])
    assert err.startswith('Error: OLLAMA_ORIGINS: the origin "nonsense" must')
    assert err.count("\n") == 1


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """Return a function that starts a server at OLLAMA_HOST with a given reply to /api/version."""
    answer: tuple[int, bytes, str] = (200, b"", "")

    class Handler(BaseHTTPRequestHandler):
        def version_string(self) -> str:
            return answer[2]

        def do_GET(self) -> None:
            self.send_response(answer[0] if self.path == "/api/version" else 404)
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *args: object) -> None:
            pass

    with serve_on_thread(HTTPServer(("127.0.0.1", 0), Handler)) as host:
        monkeypatch.setenv("OLLAMA_HOST", host)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

        def set_answer(status: int, body: bytes, server: str = "") -> None:
            nonlocal answer
            answer = (status, body, server)

        yield set_answer


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_version_of_a_server_like_us(
    run: Run, answering: Answering, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.setattr("ollama_tw.cli.version.__version__", "0.6.0")
    answering(200, b'{"version":"0.5.0"}', "ollama_tw/0.6.0")
    assert run(flag) == (0, "ollama version is 0.5.0 (ollama_tw 0.6.0)\n", "")


def test_version_of_a_server_of_another_release(
    run: Run, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_tw.cli.version.__version__", "0.6.0")
    monkeypatch.setattr("ollama_tw.cli.version.OLLAMA_VERSION", "0.34.2")
    answering(200, b'{"version":"0.34.2"}', "ollama_tw/0.7.0")
    assert run("-v") == (
        0,
        f"ollama version is 0.34.2 (ollama_tw 0.7.0)\n{CLIENT}",
        "",
    )


def test_version_of_another_server(run: Run, answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_tw.cli.version.__version__", "0.6.0")
    monkeypatch.setattr("ollama_tw.cli.version.OLLAMA_VERSION", "0.34.2")
    answering(200, json.dumps({"version": "9.9.9"}).encode())
    assert run("-v") == (
        0,
        f"ollama version is 9.9.9\n{CLIENT}",
        "",
    )


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b'{"version":"1"}'), (200, b"<html>"), (200, b"[]"), (200, b'{"version":5}'), (200, b"\xff")],
)
def test_version_where_no_ollama_answers(
    run: Run,
    answering: Answering,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
) -> None:
    monkeypatch.setattr("ollama_tw.cli.version.__version__", "0.6.0")
    monkeypatch.setattr("ollama_tw.cli.version.OLLAMA_VERSION", "0.34.2")
    answering(status, body)
    assert run("-v") == (
        0,
        f"Warning: could not connect to a running Ollama instance\n{CLIENT}",
        "",
    )


def test_version_where_nothing_listens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_tw.cli.version.__version__", "0.6.0")
    monkeypatch.setattr("ollama_tw.cli.version.OLLAMA_VERSION", "0.34.2")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "Warning: could not connect to a running Ollama instance"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, click.Command], None]:
    """Return a function that adds a command as a module beside the others."""

    def install(name: str, command: click.Command) -> None:
        added = types.ModuleType(name)
        added.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"ollama_tw.cli.commands.{name}", added)
        monkeypatch.setattr(module, "COMMANDS", (*module.COMMANDS, name))

    return install


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OllamaError(404, "model 'x' not found"), "model 'x' not found"),
        (click.ClickException("could not connect"), "could not connect"),
        (PermissionError(13, "permission denied", "/var/x"), "permission denied: /var/x"),
    ],
)
def test_what_a_command_raises_is_told_in_one_line(
    run: Run, install: Callable[[str, click.Command], None], error: Exception, text: str
) -> None:
    def fail() -> None:
        raise error

    install("probe", Command("probe", callback=fail))
    assert run("probe") == (1, "", f"Error: {text}\n")


def test_a_command_that_is_interrupted_is_silent(
    run: Run, install: Callable[[str, click.Command], None]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    install("probe", Command("probe", callback=interrupted))
    code, _, err = run("probe")
    assert (code, err.strip()) == (130, "")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (["one"], "accepts 1 arg(s), received 0"),
        (["one", "a", "b"], "accepts 1 arg(s), received 2"),
        (["two", "a"], "accepts 2 arg(s), received 1"),
        (["some", "--flag", "x"], "requires at least 1 arg(s), only received 0"),
        (["maybe", "a", "b"], "accepts at most 1 arg(s), received 2"),
        (["some", "--flag"], "flag needs an argument: --flag"),
    ],
)
def test_arguments_are_counted(
    run: Run, install: Callable[[str, click.Command], None], line: list[str], error: str
) -> None:
    flag = click.Option(["--flag"])
    commands: dict[str, list[click.Parameter]] = {
        "one": [click.Argument(["a"])],
        "two": [click.Argument(["a"]), click.Argument(["b"])],
        "some": [click.Argument(["a"], nargs=-1, required=True), flag],
        "maybe": [click.Argument(["a"], required=False)],
    }
    for name, arguments in commands.items():
        install(name, Command(name, params=arguments, callback=lambda **values: None))
    assert run(*line) == (1, "", f"Error: {error}\n")


def test_help_needs_no_arguments(run: Run, install: Callable[[str, click.Command], None]) -> None:
    install("one", Command("one", params=[click.Argument(["model"])], help="About one."))
    code, out, _ = run("one", "--help")
    assert code == 0
    assert "About one." in out
