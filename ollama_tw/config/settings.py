"""What the user set: every environment variable of the server, read once.

The table ``VARIABLES`` is the one description of them; parsing, the help of ``ollama serve`` and
the options of ``twistd ollama`` are made from it.

Source: spec/serve.md; how values are written, spec/models-and-cli.md section 9.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ollama_tw.config.host import DEFAULT_HOST, DEFAULT_PORT, Endpoint, is_loopback, join_host_port
from ollama_tw.config.variables import (
    Variable,
    Warn,
    boolean,
    choice,
    duration,
    optional,
    string,
    timeout,
    verbosity,
    whole_number,
)

MEBIBYTE = 1024 * 1024
CLOUD = "https://ollama.com:443"
"""Where cloud models run."""

_INT32_MAX = 2**31 - 1
# llama.cpp decodes at most this many sequences in one context.
_MAX_SEQUENCES = 256
_MAX_OVERHEAD_MB = 1024 * 1024

_ORIGIN_SCHEMES = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)
LOCAL_ORIGINS = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")
        for port in ("", ":*")
        for scheme in ("http", "https")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
"""The origins that are allowed whatever ``OLLAMA_ORIGINS`` says."""


class SettingsError(Exception):
    """A setting with which the server must not start; the text is one sentence for the user."""


def _origins(text: str, note: Warn) -> tuple[str, ...]:
    """The listed origins, then the local ones; those without a ``*`` in lower case.

    Source: spec/inference-api.md section 5.4.
    """
    listed = []
    for entry in filter(None, map(str.strip, text.split(","))):
        if entry.count("*") > 1:
            raise SettingsError(f'OLLAMA_ORIGINS: only one * is allowed in the origin "{entry}"')
        if "*" not in entry:
            entry = entry.lower()
            if not entry.startswith(_ORIGIN_SCHEMES):
                raise SettingsError(
                    f'OLLAMA_ORIGINS: the origin "{entry}" must contain a * or begin with one of'
                    f" {', '.join(_ORIGIN_SCHEMES)}"
                )
        listed.append(entry)
    return tuple(dict.fromkeys((*listed, *LOCAL_ORIGINS)))


def _remotes(text: str, note: Warn) -> tuple[str, ...]:
    """The listed host names, in lower case."""
    return tuple(dict.fromkeys(filter(None, (name.strip().lower() for name in text.split(",")))))


def _cloud_base_url(text: str, note: Warn) -> str:
    """Scheme and host of a cloud on this machine, or the cloud itself: what is sent there is signed with
    the server's key, and a signature is good at the real one too.

    Source: spec/models-and-cli.md section 5.9.
    """
    if text == CLOUD:
        return text
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("is not an http or https URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("is not an http or https URL")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("is more than a scheme and a host")
    if not is_loopback(parts.hostname):
        raise ValueError("does not lead to this machine")
    return f"{parts.scheme}://{parts.netloc}"


HOST = Variable(
    "OLLAMA_HOST",
    Endpoint.parse,
    join_host_port(DEFAULT_HOST, DEFAULT_PORT),
    "Host and port the server listens on",
)
ORIGINS = Variable("OLLAMA_ORIGINS", _origins, "*", "Comma separated list of allowed CORS origins")
DEBUG = Variable("OLLAMA_DEBUG", verbosity, "false", "Log debug messages", switch=True)
MODELS = Variable("OLLAMA_MODELS", string, "~/.ollama/models", "Directory where models are stored")
KEEP_ALIVE = Variable(
    "OLLAMA_KEEP_ALIVE",
    duration,
    "5m",
    "How long a model stays loaded after its last use; 0 unloads it at once, -1 never",
)
MAX_LOADED_MODELS = Variable(
    "OLLAMA_MAX_LOADED_MODELS",
    whole_number(1, _INT32_MAX),
    "1",
    "Maximum number of models loaded at the same time",
)
MAX_QUEUE = Variable(
    "OLLAMA_MAX_QUEUE", whole_number(0, _INT32_MAX), "512", "Maximum number of waiting requests"
)
NOPRUNE = Variable("OLLAMA_NOPRUNE", boolean, "false", "Keep model layers that no model uses", switch=True)
CONTEXT_LENGTH = Variable(
    "OLLAMA_CONTEXT_LENGTH",
    whole_number(1, _INT32_MAX),
    "2048",
    "Context length, in tokens, of models that do not say otherwise",
)
NUM_PARALLEL = Variable(
    "OLLAMA_NUM_PARALLEL",
    whole_number(1, _MAX_SEQUENCES),
    "1",
    "Maximum number of requests that a model works on at the same time",
)
SCHED_SPREAD = Variable("OLLAMA_SCHED_SPREAD", boolean, "false", "Spread a model over all GPUs", switch=True)
FLASH_ATTENTION = Variable(
    "OLLAMA_FLASH_ATTENTION",
    optional(boolean),
    "auto",
    "Use flash attention; 0 turns it off, auto leaves it to the backend",
)
GO_TEMPLATE = Variable(
    "OLLAMA_GO_TEMPLATE",
    optional(boolean),
    "auto",
    "Use a model's Go template; 0 prefers the chat template in its file, auto the more able one",
)
KV_CACHE_TYPE = Variable(
    "OLLAMA_KV_CACHE_TYPE",
    choice("f16", "q8_0", "q4_0"),
    "f16",
    "Type of the values in the K/V cache: f16, q8_0 or q4_0",
)
GPU_OVERHEAD = Variable(
    "OLLAMA_GPU_OVERHEAD",
    whole_number(0, _MAX_OVERHEAD_MB),
    "0",
    "Memory to leave free on each GPU, in MB",
)
LOAD_TIMEOUT = Variable(
    "OLLAMA_LOAD_TIMEOUT", timeout, "5m", "How long a model may take to load; 0 means any time"
)
LLM_LIBRARY = Variable("OLLAMA_LLM_LIBRARY", string, "", "Name of the backend to use, whatever is found")
NO_CLOUD = Variable("OLLAMA_NO_CLOUD", boolean, "false", "Turn off cloud models", switch=True)
REMOTES = Variable(
    "OLLAMA_REMOTES",
    _remotes,
    "ollama.com",
    "Comma separated list of hosts to which models that run elsewhere may be forwarded",
)
CLOUD_BASE_URL = Variable(
    "OLLAMA_CLOUD_BASE_URL", _cloud_base_url, CLOUD, "Stand-in for the cloud, on this machine"
)
DRAIN_TIMEOUT = Variable(
    "OLLAMA_DRAIN_TIMEOUT",
    duration,
    "5m",
    "How long a shutdown waits for the requests that run; -1 means any time",
)

VARIABLES: tuple[Variable[object], ...] = (
    HOST,
    ORIGINS,
    DEBUG,
    MODELS,
    KEEP_ALIVE,
    MAX_LOADED_MODELS,
    MAX_QUEUE,
    NOPRUNE,
    CONTEXT_LENGTH,
    NUM_PARALLEL,
    SCHED_SPREAD,
    FLASH_ATTENTION,
    GO_TEMPLATE,
    KV_CACHE_TYPE,
    GPU_OVERHEAD,
    LOAD_TIMEOUT,
    LLM_LIBRARY,
    NO_CLOUD,
    REMOTES,
    CLOUD_BASE_URL,
    DRAIN_TIMEOUT,
)


@dataclass(frozen=True)
class Settings:
    """The settings of one server.

    Durations are whole nanoseconds, ``durations.FOREVER`` for those without end; ``gpu_overhead``
    is in bytes; ``host`` is "" for all interfaces; ``home`` is the directory ``~/.ollama``;
    ``origins`` are matched as they stand, one ``*`` in them standing for any text;
    ``flash_attention`` and ``go_template`` are None where the server may choose; ``llm_library`` is
    "" likewise.
    """

    home: Path
    host: str
    port: int
    origins: tuple[str, ...]
    debug: bool
    models: Path
    keep_alive: int
    max_loaded_models: int
    max_queue: int
    noprune: bool
    context_length: int
    num_parallel: int
    sched_spread: bool
    flash_attention: bool | None
    go_template: bool | None
    kv_cache_type: str
    gpu_overhead: int
    load_timeout: int
    llm_library: str
    no_cloud: bool
    remotes: tuple[str, ...]
    cloud_base_url: str
    drain_timeout: int

    @classmethod
    def read(cls, environ: Mapping[str, str], warn: Warn) -> "Settings":
        """The settings in ``environ``; ``warn`` is told of each that is not usable and replaced.

        Raises SettingsError for an origin that is none, and where no home directory is known.
        """
        user_home = environ.get("HOME") or environ.get("USERPROFILE")
        if not user_home:
            raise SettingsError("HOME is not set: there is no place for the key and the models")
        endpoint = HOST.read(environ, warn)
        return cls(
            home=Path(user_home, ".ollama"),
            host=endpoint.host,
            port=endpoint.port,
            origins=ORIGINS.read(environ, warn),
            debug=DEBUG.read(environ, warn),
            models=_expand(MODELS.read(environ, warn), user_home),
            keep_alive=KEEP_ALIVE.read(environ, warn),
            max_loaded_models=MAX_LOADED_MODELS.read(environ, warn),
            max_queue=MAX_QUEUE.read(environ, warn),
            noprune=NOPRUNE.read(environ, warn),
            context_length=CONTEXT_LENGTH.read(environ, warn),
            num_parallel=NUM_PARALLEL.read(environ, warn),
            sched_spread=SCHED_SPREAD.read(environ, warn),
            flash_attention=FLASH_ATTENTION.read(environ, warn),
            go_template=GO_TEMPLATE.read(environ, warn),
            kv_cache_type=KV_CACHE_TYPE.read(environ, warn),
            gpu_overhead=GPU_OVERHEAD.read(environ, warn) * MEBIBYTE,
            load_timeout=LOAD_TIMEOUT.read(environ, warn),
            llm_library=LLM_LIBRARY.read(environ, warn),
            no_cloud=NO_CLOUD.read(environ, warn),
            remotes=REMOTES.read(environ, warn),
            cloud_base_url=CLOUD_BASE_URL.read(environ, warn),
            drain_timeout=DRAIN_TIMEOUT.read(environ, warn),
        )

    @property
    def address(self) -> str:
        """Host and port as they are shown: ``127.0.0.1:11434``, ``[::1]:11434``."""
        return join_host_port(self.host, self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def _expand(path: str, user_home: str) -> Path:
    """The path; a leading ``~`` is the user's home, for no shell has expanded it in our table or
    in a unit file."""
    if path == "~" or path.startswith("~/"):
        return Path(user_home, path[2:])
    return Path(path)
