"""Settings of the server, read once from environment variables.

:class:`Settings` is the one table of them: each field names its variable, parser, default and help text.
The help of ``ollama serve``, the options of ``twistd ollama`` and docs/settings.md are generated from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollama_tw import OLLAMA_VERSION
from ollama_tw.config import parsers
from ollama_tw.config.declaration import SettingsError, Variable, Warn, setting, variables_of
from ollama_tw.config.host import DEFAULT_HOST, DEFAULT_PORT, Endpoint, join_host_port

_INT32_MAX = 2**31 - 1
# llama.cpp decodes at most this many sequences in one context.
_MAX_SEQUENCES = 256
_MAX_OVERHEAD_MIB = 1024 * 1024

CONFIG = Variable(
    "OLLAMA_CONFIG",
    parsers.path_if_set,
    "",
    "Configuration file; not set, ollama.toml beside the models directory, else /etc/ollama/ollama.toml",
)
"""Names the file in which the other variables may be set, too."""

HOST = Variable(
    "OLLAMA_HOST",
    Endpoint.parse,
    join_host_port(DEFAULT_HOST, DEFAULT_PORT),
    "Host and port the server listens on",
)
"""Clients read this variable, too."""


@dataclass(frozen=True)
class Settings:
    """The settings of one server.

    Durations are nanoseconds, ``golang.durations.FOREVER`` for unlimited ones. ``home`` is the directory
    ``~/.ollama``. An origin may contain one ``*`` for any text. ``flash_attention``, ``go_template``
    and ``runner`` are None, ``llm_library`` is "" where the server chooses. ``gpu_overhead`` is in bytes.
    """

    home: Path
    endpoint: Endpoint = setting(HOST)
    config: Path | None = setting(CONFIG)
    origins: tuple[str, ...] = setting(
        Variable(
            "OLLAMA_ORIGINS",
            parsers.origins,
            "*",
            "Comma separated list of allowed CORS origins; not set, all may use but not change models",
            reloaded=True,
        )
    )
    debug: bool = setting(
        Variable("OLLAMA_DEBUG", parsers.verbosity, "false", "Log debug messages", switch=True)
    )
    log_format: str = setting(
        Variable(
            "OLLAMA_LOG_FORMAT",
            parsers.choice("text", "json"),
            "text",
            "Format of the log of ollama serve: text, or json for one JSON object a line",
        )
    )
    models: Path = setting(
        Variable("OLLAMA_MODELS", parsers.path, "~/.ollama/models", "Directory where models are stored")
    )
    keep_alive: int = setting(
        Variable(
            "OLLAMA_KEEP_ALIVE",
            parsers.duration,
            "5m",
            "How long a model stays loaded after its last use; 0 unloads it at once, -1 never",
            reloaded=True,
        )
    )
    max_loaded_models: int = setting(
        Variable(
            "OLLAMA_MAX_LOADED_MODELS",
            parsers.whole_number(1, _INT32_MAX),
            "1",
            "Maximum number of models loaded at the same time",
            reloaded=True,
        )
    )
    max_queue: int = setting(
        Variable(
            "OLLAMA_MAX_QUEUE",
            parsers.whole_number(0, _INT32_MAX),
            "512",
            "Maximum number of waiting requests",
            reloaded=True,
        )
    )
    noprune: bool = setting(
        Variable(
            "OLLAMA_NOPRUNE", parsers.boolean, "false", "Keep model layers that no model uses", switch=True
        )
    )
    context_length: int = setting(
        Variable(
            "OLLAMA_CONTEXT_LENGTH",
            parsers.whole_number(1, _INT32_MAX),
            "2048",
            "Context length in tokens, unless the model or the request sets num_ctx",
            reloaded=True,
        )
    )
    num_parallel: int = setting(
        Variable(
            "OLLAMA_NUM_PARALLEL",
            parsers.whole_number(1, _MAX_SEQUENCES),
            "1",
            "Maximum number of requests that a model processes at the same time",
            reloaded=True,
        )
    )
    sched_spread: bool = setting(
        Variable("OLLAMA_SCHED_SPREAD", parsers.boolean, "false", "Spread a model over all GPUs", switch=True)
    )
    flash_attention: bool | None = setting(
        Variable(
            "OLLAMA_FLASH_ATTENTION",
            parsers.optional(parsers.boolean),
            "auto",
            "Use flash attention; 0 turns it off, and so does auto on the CPU; on GPUs the backend decides",
            reloaded=True,
        )
    )
    go_template: bool | None = setting(
        Variable(
            "OLLAMA_GO_TEMPLATE",
            parsers.optional(parsers.boolean),
            "auto",
            "Use a model's Go template; 0 prefers the chat template in its file, auto the more able one",
        )
    )
    kv_cache_type: str = setting(
        Variable(
            "OLLAMA_KV_CACHE_TYPE",
            parsers.choice("f16", "q8_0", "q4_0"),
            "f16",
            "Type of the values in the K/V cache: f16, q8_0 or q4_0",
            reloaded=True,
        )
    )
    prompt_cache: parsers.MemoryShare | None = setting(
        Variable(
            "OLLAMA_PROMPT_CACHE",
            parsers.optional(parsers.memory_share),
            "auto",
            "Main memory for the states of prompts that no slot holds any more, such as 4GB or 10% of all; "
            "0 turns it off, auto is a quarter of the free memory, 8GB at most",
        )
    )
    prompt_cache_disk: parsers.MemoryShare = setting(
        Variable(
            "OLLAMA_PROMPT_CACHE_DISK",
            parsers.memory_share,
            "0",
            "Disk space for the states of prompts, which then outlive a restart, such as 20GB or 5% of the "
            "file system; they contain the prompts and replies of users",
        )
    )
    prompt_cache_shared: bool = setting(
        Variable(
            "OLLAMA_PROMPT_CACHE_SHARED",
            parsers.boolean,
            "false",
            "Let API keys share cached prompts; the time of a reply then shows what others have sent",
            switch=True,
        )
    )
    step_target: int = setting(
        Variable(
            "OLLAMA_STEP_TARGET",
            parsers.duration,
            "150ms",
            "How long a step may take that evaluates prompts while other requests generate",
            reloaded=True,
        )
    )
    speculation: bool = setting(
        Variable(
            "OLLAMA_SPECULATION",
            parsers.boolean,
            "true",
            "Evaluate several likely tokens in a step where that is faster; 0 turns it off",
        )
    )
    gpu_overhead: int = setting(
        Variable(
            "OLLAMA_GPU_OVERHEAD",
            parsers.mebibytes(_MAX_OVERHEAD_MIB),
            "0",
            "Memory to leave free on each GPU, in MB",
        )
    )
    load_timeout: int = setting(
        Variable(
            "OLLAMA_LOAD_TIMEOUT",
            parsers.timeout,
            "5m",
            "How long the load of a model may make no progress; 0 means no limit",
        )
    )
    llm_library: str = setting(
        Variable(
            "OLLAMA_LLM_LIBRARY",
            parsers.string,
            "",
            "Name of the backend to use instead of the available one of the highest priority",
        )
    )
    runner: str | None = setting(
        Variable(
            "OLLAMA_RUNNER",
            parsers.optional(parsers.choice("process", "inprocess")),
            "auto",
            "Where models run: process is a child process for each, inprocess the server's own process; "
            "auto is process, except in another application",
        )
    )
    special_tokens: bool = setting(
        Variable(
            "OLLAMA_SPECIAL_TOKENS",
            parsers.boolean,
            "false",
            "Recognise special tokens in the messages of users and tools",
            switch=True,
            reloaded=True,
        )
    )
    no_cloud: bool = setting(
        Variable("OLLAMA_NO_CLOUD", parsers.boolean, "false", "Turn off cloud models", switch=True)
    )
    remotes: tuple[str, ...] = setting(
        Variable(
            "OLLAMA_REMOTES",
            parsers.host_names,
            "ollama.com",
            "Comma separated list of hosts to which requests for remote models may be forwarded",
        )
    )
    cloud_base_url: str = setting(
        Variable(
            "OLLAMA_CLOUD_BASE_URL",
            parsers.cloud_base_url,
            parsers.CLOUD,
            "URL used instead of the cloud's, for tests; its host must be this machine",
        )
    )
    drain_timeout: int = setting(
        Variable(
            "OLLAMA_DRAIN_TIMEOUT",
            parsers.duration,
            "5m",
            "How long a shutdown waits for running requests; -1 means no limit",
            reloaded=True,
        )
    )
    require_keys: bool = setting(
        Variable(
            "OLLAMA_REQUIRE_KEYS",
            parsers.boolean,
            "false",
            "Do not start without API keys (ollama keys add), and never answer without one",
            switch=True,
        )
    )
    ui: bool = setting(
        Variable("OLLAMA_UI", parsers.boolean, "true", "Serve the web page at /ui; 0 removes it")
    )
    version: str = setting(
        Variable(
            "OLLAMA_VERSION",
            parsers.version,
            OLLAMA_VERSION,
            "Version of Ollama that /api/version reports; clients choose by it which features to use",
            # twistd has an option --version.
            option_name="ollama-version",
        )
    )

    origins_listed: bool = True
    """False if ``OLLAMA_ORIGINS`` is not set: foreign pages may then not change models."""

    @classmethod
    def read(cls, environ: Mapping[str, str], warn: Warn) -> "Settings":
        """Return the settings in ``environ``; call ``warn`` for each invalid value, which is replaced.

        Raises SettingsError for an invalid origin and if the home directory is unknown.
        """
        user_home = _user_home(environ)
        values: dict[str, Any] = {
            field: variable.read(environ, warn) for field, variable in variables_of(cls).items()
        }
        values["models"] = _expand(values["models"], user_home)
        if values["config"] is not None:
            values["config"] = _expand(values["config"], user_home)
        listed = variables_of(cls)["origins"].is_set(environ)
        return cls(home=Path(user_home, ".ollama"), origins_listed=listed, **values)

    @property
    def keys_file(self) -> Path:
        """The file of the API keys, beside the configuration file that is set, else the models directory."""
        return (self.config or self.models).parent / "keys.json"

    @property
    def host(self) -> str:
        """Host name or address to listen on, "" for all interfaces."""
        return self.endpoint.host

    @property
    def port(self) -> int:
        """Port to listen on."""
        return self.endpoint.port


VARIABLES: tuple[Variable[object], ...] = tuple(variables_of(Settings).values())
"""All variables, in the order of the help."""


def models_directory(environ: Mapping[str, str]) -> Path:
    """Return the models directory in ``environ``. Raises SettingsError if the home directory is unknown."""
    models: Path = variables_of(Settings)["models"].read(environ, lambda text: None)
    return _expand(models, _user_home(environ))


def config_file(environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file that ``environ`` names; None if it names none.

    Raises SettingsError if the home directory is unknown.
    """
    path = CONFIG.read(environ, lambda text: None)
    return None if path is None else _expand(path, _user_home(environ))


def _user_home(environ: Mapping[str, str]) -> str:
    user_home = environ.get("HOME") or environ.get("USERPROFILE")
    if not user_home:
        raise SettingsError("HOME is not set: the directory of the key and the models is unknown")
    return user_home


def _expand(path: Path, user_home: str) -> Path:
    """Replace a leading ``~``, which no shell expands in the default or in a unit file."""
    first, *rest = path.parts or ("",)
    return Path(user_home, *rest) if first == "~" else path
