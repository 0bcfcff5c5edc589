"""The programs that can be launched, and what each needs to use a server.

Source: ollama: cmd/launch/claude.go, codex.go, opencode.go, cline.go; the documentation of Claude Code
(settings), Codex (config.toml), OpenCode (providers), Continue (config.yaml), aider (Ollama) and Open WebUI
(environment variables).
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ollama_tw.cli.launch.edits import Edit, JsonEdit, TomlEdit, WholeFile, YamlEdit

_PROFILE = "ollama-launch"
# Clients of OpenAI's and Anthropic's APIs require a key even if the server does not.
_ANY_KEY = "ollama"


@dataclass(frozen=True)
class Target:
    """Settings for a program: the address of the server, a model, the server's key or "".

    ``home`` is the home directory of the user.
    """

    url: str
    model: str
    key: str
    home: Path


def _nothing(target: Target) -> Sequence[Edit]:
    return ()


@dataclass(frozen=True)
class Tool:
    """A program: its name in commands and its own, how it is found, installed and configured.

    ``edits`` are the files that it needs at each start; ``lasting`` are those that let it use the server
    when it is started without this program, if these differ.
    """

    name: str
    title: str
    program: str
    installation: str
    environment: Callable[[Target], Mapping[str, str]]
    arguments: Callable[[Target], Sequence[str]]
    edits: Callable[[Target], Sequence[Edit]] = _nothing
    lasting: Callable[[Target], Sequence[Edit]] | None = None
    folders: tuple[str, ...] = ()
    """Folders below the home directory in which its installer puts the program."""
    needs_model: bool = True
    needs_tools: bool = False
    """True if the program fails with a model that cannot call tools."""

    def all_edits(self, target: Target) -> Sequence[Edit]:
        """Return the edits after which the program uses the server by itself."""
        return self.edits(target) if self.lasting is None else self.lasting(target)


def _claude_environment(target: Target) -> dict[str, str]:
    tiers = (
        "ANTHROPIC_DEFAULT_OPUS_MODEL",
        "ANTHROPIC_DEFAULT_SONNET_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    )
    return {
        "ANTHROPIC_BASE_URL": target.url,
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_AUTH_TOKEN": target.key or _ANY_KEY,
        # A header that changes with each request would keep the prompt from being found in the cache.
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        **dict.fromkeys((*tiers, "CLAUDE_CODE_SUBAGENT_MODEL"), target.model),
    }


def _claude_settings(target: Target) -> Sequence[Edit]:
    values: dict[tuple[str, ...], object] = {("model",): target.model}
    values |= {("env", name): value for name, value in _claude_environment(target).items()}
    return [JsonEdit(target.home / ".claude/settings.json", values)]


def _codex_folder(target: Target) -> Path:
    home = os.environ.get("CODEX_HOME")
    return Path(home) if home else target.home / ".codex"


def _codex_provider(target: Target) -> Sequence[Edit]:
    provider = {
        "name": "Ollama",
        "base_url": f"{target.url}/v1/",
        "wire_api": "responses",
    }
    if target.key:
        provider["env_key"] = "OLLAMA_API_KEY"
    return [TomlEdit(_codex_folder(target) / "config.toml", {f"model_providers.{_PROFILE}": provider})]


def _codex_profile(target: Target) -> Sequence[Edit]:
    text = f"model = {json.dumps(target.model)}\nmodel_provider = {json.dumps(_PROFILE)}\n"
    return [*_codex_provider(target), WholeFile(_codex_folder(target) / f"{_PROFILE}.config.toml", text)]


def _opencode_config(target: Target) -> Sequence[Edit]:
    provider = ("provider", "ollama")
    options = {"baseURL": f"{target.url}/v1"} | ({"apiKey": "{env:OLLAMA_API_KEY}"} if target.key else {})
    return [
        JsonEdit(
            target.home / ".config/opencode/opencode.json",
            {
                (*provider, "npm"): "@ai-sdk/openai-compatible",
                (*provider, "name"): "Ollama",
                **{(*provider, "options", name): value for name, value in options.items()},
                (*provider, "models", target.model): {"name": target.model},
                ("model",): f"ollama/{target.model}",
            },
        )
    ]


def _cline_state(target: Target) -> Sequence[Edit]:
    values: dict[tuple[str, ...], object] = {("ollamaBaseUrl",): target.url, ("welcomeViewCompleted",): True}
    for mode in ("act", "plan"):
        values |= {
            (f"{mode}ModeApiProvider",): "ollama",
            (f"{mode}ModeOllamaModelId",): target.model,
            (f"{mode}ModeOllamaBaseUrl",): target.url,
        }
    provider = ("providers", "ollama")
    providers: dict[tuple[str, ...], object] = {
        ("lastUsedProvider",): "ollama",
        (*provider, "settings", "provider"): "ollama",
        (*provider, "settings", "model"): target.model,
        (*provider, "settings", "baseUrl"): target.url,
    }
    # Without these a file counts as damaged and is replaced.
    defaults: dict[tuple[str, ...], object] = {
        ("version",): 1,
        ("modes",): {},
        (*provider, "updatedAt"): "2026-01-01T00:00:00.000Z",
        (*provider, "tokenSource"): "manual",
    }
    data = target.home / ".cline/data"
    # Version 3 reads the second file, and takes the first one over only where that is missing.
    return [
        JsonEdit(data / "globalState.json", values),
        JsonEdit(data / "settings/providers.json", providers, defaults),
    ]


def _continue_config(target: Target) -> Sequence[Edit]:
    lines = [
        f"- name: {target.model}",
        "  provider: ollama",
        f"  model: {target.model}",
        f"  apiBase: {target.url}",
    ]
    head = "name: My Config\nversion: 0.0.1\nschema: v1\n"
    return [YamlEdit(target.home / ".continue/config.yaml", {}, {"models": lines}, head)]


def _aider_environment(target: Target) -> dict[str, str]:
    return {"OLLAMA_API_BASE": target.url} | ({"OLLAMA_API_KEY": target.key} if target.key else {})


def _aider_config(target: Target) -> Sequence[Edit]:
    return [
        YamlEdit(
            target.home / ".aider.conf.yml",
            {"model": f"ollama_chat/{target.model}"},
            {"set-env": [f"- OLLAMA_API_BASE={target.url}"]},
        )
    ]


def _webui_environment(target: Target) -> dict[str, str]:
    model = {"DEFAULT_MODELS": target.model} if target.model else {}
    # The settings of the first server, by its index.
    configs = {"0": {"enable": True, "key": target.key}}
    key = {"OLLAMA_API_CONFIGS": json.dumps(configs)} if target.key else {}
    return {"OLLAMA_BASE_URL": target.url, "ENABLE_OLLAMA_API": "true", **model, **key}


def _key_environment(target: Target) -> dict[str, str]:
    return {"OLLAMA_API_KEY": target.key} if target.key else {}


TOOLS = (
    Tool(
        "claude",
        "Claude Code",
        "claude",
        "npm install -g @anthropic-ai/claude-code",
        _claude_environment,
        lambda target: ["--model", target.model],
        lasting=_claude_settings,
        folders=(".local/bin", ".claude/local"),
        needs_tools=True,
    ),
    Tool(
        "codex",
        "Codex",
        "codex",
        "npm install -g @openai/codex",
        _key_environment,
        lambda target: ["-c", f'model_provider="{_PROFILE}"', "-m", target.model],
        edits=_codex_provider,
        lasting=_codex_profile,
        needs_tools=True,
    ),
    Tool(
        "opencode",
        "OpenCode",
        "opencode",
        "npm install -g opencode-ai",
        _key_environment,
        lambda target: [],
        edits=_opencode_config,
        folders=(".opencode/bin",),
        needs_tools=True,
    ),
    Tool(
        "cline",
        "Cline",
        "cline",
        "npm install -g cline",
        _key_environment,
        lambda target: [],
        edits=_cline_state,
        needs_tools=True,
    ),
    Tool(
        "continue",
        "Continue",
        "cn",
        "npm install -g @continuedev/cli",
        _key_environment,
        lambda target: [],
        edits=_continue_config,
        needs_tools=True,
    ),
    Tool(
        "aider",
        "aider",
        "aider",
        "python -m pip install aider-install && aider-install",
        _aider_environment,
        lambda target: ["--model", f"ollama_chat/{target.model}"],
        lasting=_aider_config,
        folders=(".local/bin",),
    ),
    Tool(
        "open-webui",
        "Open WebUI",
        "open-webui",
        "pip install open-webui",
        _webui_environment,
        lambda target: ["serve"],
        needs_model=False,
        needs_tools=True,
    ),
)
