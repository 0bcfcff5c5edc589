"""``ollama launch`` with programs that print how they were started."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import PROGRAM, Ollama, Result, runner
from tests.helpers.process import environment
from tests.helpers.server import Server
from tests.helpers.terminal import Terminal

NAMES = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_DEFAULT_HAIKU_MODEL", "OLLAMA_API_BASE")


def install(home: Path, *programs: str) -> None:
    """Install programs that print their arguments and some variables, and exit with 7."""
    folder = home / "bin"
    folder.mkdir(exist_ok=True)
    for name in programs:
        path = folder / name
        shown = "".join(f'echo "{variable}=${variable}"\n' for variable in NAMES)
        path.write_text(f'#!/bin/sh\necho "{name} $*"\n{shown}exit 7\n')
        path.chmod(0o755)


@pytest.fixture
def launch(scripted: Server, tmp_path: Path) -> Ollama:
    """Return a function that runs ``ollama launch`` with the programs of ``bin`` in the home directory."""
    run = runner(tmp_path, scripted.url)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    return lambda *arguments, **variables: run("launch", *arguments, **{"PATH": path, **variables})


def test_claude_needs_no_file(launch: Ollama, scripted: Server, tmp_path: Path) -> None:
    install(tmp_path, "claude")
    result = launch("claude", "--model", "m", "--", "-p", "hello world")
    assert result.code == 7
    assert result.out.splitlines() == [
        "claude --model m -p hello world",
        f"ANTHROPIC_BASE_URL={scripted.url}",
        "ANTHROPIC_AUTH_TOKEN=ollama",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL=m",
        "OLLAMA_API_BASE=",
    ]
    assert not (tmp_path / ".claude").exists()
    assert "ANTHROPIC_AUTH_TOKEN=secret\n" in launch("claude", "--model", "m", OLLAMA_API_KEY="secret").out


def test_claude_is_configured_and_restored(launch: Ollama, scripted: Server, tmp_path: Path) -> None:
    settings = tmp_path / ".claude/settings.json"
    settings.parent.mkdir()
    original = '{"model": "opus", "env": {"A": "1"}}'
    settings.write_text(original)
    settings.chmod(0o600)
    result = launch("claude", "--model", "m", "--config", "-y")
    assert (result.code, result.out) == (0, "")
    assert f'+    "ANTHROPIC_BASE_URL": "{scripted.url}",' in result.err
    assert "'ollama launch claude --restore' undoes this" in result.err
    written = json.loads(settings.read_text())
    assert (written["model"], written["env"]["A"]) == ("m", "1")
    assert written["env"]["ANTHROPIC_BASE_URL"] == scripted.url
    assert settings.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".ollama/launch/claude/settings.json").read_text() == original
    assert launch("claude", "--restore", "-y").code == 0
    assert json.loads(settings.read_text()) == {"model": "opus", "env": {"A": "1"}}
    assert launch("claude", "--restore") == Result(
        1, "", "Error: there is nothing to restore: 'ollama launch' changed no file of claude\n"
    )


def test_codex_gets_a_provider(launch: Ollama, scripted: Server, tmp_path: Path) -> None:
    install(tmp_path, "codex")
    result = launch("codex", "--model", "m", "--yes", "--", "--sandbox", "read-only")
    assert result.code == 7
    assert result.out.startswith('codex -c model_provider="ollama-launch" -m m --sandbox read-only\n')
    assert "Warning: 'm' cannot call tools, which Codex needs\n" in result.err
    config = tmp_path / ".codex/config.toml"
    provider = tomllib.loads(config.read_text())["model_providers"]["ollama-launch"]
    assert provider == {"name": "Ollama", "base_url": f"{scripted.url}/v1/", "wire_api": "responses"}
    assert launch("codex", "--model", "m", "-y", OLLAMA_API_KEY="secret").code == 7
    assert (
        tomllib.loads(config.read_text())["model_providers"]["ollama-launch"]["env_key"] == "OLLAMA_API_KEY"
    )
    assert "secret" not in config.read_text()
    assert launch("codex", "--model", "m", "-y").code == 7
    # The same again asks for nothing.
    assert "wrote" not in launch("codex", "--model", "m").err
    assert launch("codex", "--restore", "-y").err.endswith(f"removed {config}\n")
    assert not config.exists()


def test_codex_gets_a_profile_for_starts_without_ollama(launch: Ollama, tmp_path: Path) -> None:
    for model in ("m", "thinker"):
        assert launch("codex", "--model", model, "--config", "-y").code == 0
    profile = tmp_path / ".codex/ollama-launch.config.toml"
    assert tomllib.loads(profile.read_text()) == {"model": "thinker", "model_provider": "ollama-launch"}
    assert launch("codex", "--restore", "-y").code == 0
    assert list((tmp_path / ".codex").iterdir()) == []


def test_opencode_forgets_the_model_of_an_earlier_launch(launch: Ollama, tmp_path: Path) -> None:
    install(tmp_path, "opencode")
    for model in ("m", "thinker"):
        assert launch("opencode", "--model", model, "-y").code == 7
    config = tmp_path / ".config/opencode/opencode.json"
    written = json.loads(config.read_text())
    assert written["model"] == "ollama/thinker"
    assert list(written["provider"]["ollama"]["models"]) == ["thinker"]
    assert launch("opencode", "--restore", "-y").code == 0
    assert not config.exists()


def test_cline_continue_and_aider(launch: Ollama, scripted: Server, tmp_path: Path) -> None:
    install(tmp_path, "cline", "cn", "aider")
    assert launch("cline", "--model", "m", "-y").code == 7
    state = json.loads((tmp_path / ".cline/data/globalState.json").read_text())
    assert (state["planModeApiProvider"], state["actModeOllamaBaseUrl"]) == ("ollama", scripted.url)
    providers = json.loads((tmp_path / ".cline/data/settings/providers.json").read_text())["providers"]
    assert providers["ollama"]["settings"] == {"provider": "ollama", "model": "m", "baseUrl": scripted.url}
    assert launch("continue", "--model", "m", "-y").out.startswith("cn \n")
    assert yaml.safe_load((tmp_path / ".continue/config.yaml").read_text())["models"] == [
        {"name": "m", "provider": "ollama", "model": "m", "apiBase": scripted.url}
    ]
    started = launch("aider", "--model", "m").out
    assert started.startswith("aider --model ollama_chat/m\n")
    assert f"OLLAMA_API_BASE={scripted.url}\n" in started
    assert launch("aider", "--model", "m", "--config", "-y").code == 0
    assert yaml.safe_load((tmp_path / ".aider.conf.yml").read_text()) == {
        "model": "ollama_chat/m",
        "set-env": [f"OLLAMA_API_BASE={scripted.url}"],
    }


def test_open_webui_reads_its_environment(launch: Ollama, scripted: Server, tmp_path: Path) -> None:
    install(tmp_path, "open-webui")
    assert launch("open-webui").out.startswith("open-webui serve\n")
    assert launch("open-webui", "--config").out.splitlines() == [
        f"OLLAMA_BASE_URL={scripted.url}",
        "ENABLE_OLLAMA_API=true",
    ]
    with_key = launch("open-webui", "--config", OLLAMA_API_KEY="otw-secret").out
    assert 'OLLAMA_API_CONFIGS={"0": {"enable": true, "key": "otw-secret"}}' in with_key.splitlines()


def test_the_list_of_programs(launch: Ollama, tmp_path: Path) -> None:
    install(tmp_path, "codex")
    launch("codex", "--model", "m", "-y")
    rows = {line.split()[0]: line for line in launch().out.splitlines()}
    assert list(rows)[1:] == ["claude", "codex", "opencode", "cline", "continue", "aider", "open-webui"]
    assert rows["codex"].split() == ["codex", "Codex", "yes", "m"]
    assert "no: npm install -g @anthropic-ai/claude-code" in rows["claude"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nosuch"], "unknown integration: nosuch"),
        (["--model", "m"], "flags and extra args require an integration name, for example: 'ollama launch"),
        (["claude", "x"], "unexpected arguments: [x]\nUse '--' to pass extra arguments to the integration\n"),
        (
            ["claude", "--restore", "--config"],
            "--restore cannot be combined with --model, ",
        ),
        (["claude", "--model", "m"], "claude is not installed, install with: npm install -g @anthropic-ai/"),
        (["codex"], "launch of codex without questions requires --model <model>\n"),
        (["codex", "--model", "none"], "model 'none' not found: pull it with 'ollama pull none'\n"),
        (["codex", "--model", "m"], "nothing was changed: confirm the changes with --yes\n"),
    ],
)
def test_what_is_refused(launch: Ollama, tmp_path: Path, arguments: list[str], error: str) -> None:
    install(tmp_path, "codex")
    result = launch(*arguments)
    assert (result.code, result.out) == (1, "")
    assert f"Error: {error}" in result.err
    assert not (tmp_path / ".codex").exists()
    assert not (tmp_path / ".ollama/launch.json").exists()


def test_a_file_that_cannot_be_edited_is_named(launch: Ollama, tmp_path: Path) -> None:
    install(tmp_path, "opencode")
    config = tmp_path / ".config/opencode/opencode.json"
    config.parent.mkdir(parents=True)
    config.write_text("{\n  // mine\n}\n")
    result = launch("opencode", "--model", "m", "-y")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[-1].startswith(f"Error: {config} is not plain JSON (")
    assert config.read_text() == "{\n  // mine\n}\n"


@pytest.fixture
def terminal(scripted: Server, tmp_path: Path) -> Iterator[Terminal]:
    install(tmp_path, "codex")
    variables = environment(
        tmp_path, {"OLLAMA_HOST": scripted.url, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    )
    opened = Terminal([*PROGRAM, "launch", "codex"], tmp_path, variables, columns=120)
    yield opened
    opened.discard()


def test_a_terminal_is_asked_for_the_model_and_the_change(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for("Model [1]:")
    number = next(line.split()[0] for line in terminal.lines if line.endswith("  m:latest"))
    terminal.type(f"{number}\r")
    terminal.wait_for("Make these changes? [y/N]:")
    assert "+[model_providers.ollama-launch]" in terminal.lines
    terminal.type("y\r")
    terminal.wait_for('codex -c model_provider="ollama-launch" -m m:latest')
    assert terminal.wait() == 7


def test_a_change_that_is_declined(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for("Model [1]:")
    terminal.type("\r")
    terminal.wait_for("Make these changes? [y/N]:")
    terminal.type("\r")
    terminal.wait_for("Error: nothing was changed")
    assert terminal.wait() == 1
    assert not (tmp_path / ".codex").exists()
