import dataclasses
from pathlib import Path

import pytest

from ollama_tw.config.declaration import SettingsError
from ollama_tw.config.host import Endpoint, is_loopback, join_host_port
from ollama_tw.config.parsers import MemoryShare
from ollama_tw.config.settings import VARIABLES, Settings

MINUTE = 60_000_000_000
FOREVER = 9223372036854775807
LOCAL_ORIGINS = (
    "http://localhost",
    "https://localhost",
    "http://localhost:*",
    "https://localhost:*",
    "http://127.0.0.1",
    "https://127.0.0.1",
    "http://127.0.0.1:*",
    "https://127.0.0.1:*",
    "http://0.0.0.0",
    "https://0.0.0.0",
    "http://0.0.0.0:*",
    "https://0.0.0.0:*",
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)


def read(**environ: str) -> tuple[Settings, list[str]]:
    warnings: list[str] = []
    return Settings.read({"HOME": "/home/ada", **environ}, warnings.append), warnings


def quietly(**environ: str) -> Settings:
    settings, warnings = read(**environ)
    assert warnings == []
    return settings


def test_defaults_are_those_of_the_page_on_serve() -> None:
    assert quietly() == Settings(
        home=Path("/home/ada/.ollama"),
        endpoint=Endpoint("http", "127.0.0.1", 11434),
        config=None,
        origins=("*", *LOCAL_ORIGINS),
        debug=False,
        log_format="text",
        models=Path("/home/ada/.ollama/models"),
        keep_alive=5 * MINUTE,
        max_loaded_models=1,
        max_queue=512,
        noprune=False,
        context_length=2048,
        num_parallel=1,
        sched_spread=False,
        flash_attention=None,
        go_template=None,
        kv_cache_type="f16",
        prompt_cache=None,
        prompt_cache_disk=MemoryShare(0),
        prompt_cache_shared=False,
        step_target=150_000_000,
        speculation=True,
        gpu_overhead=0,
        load_timeout=5 * MINUTE,
        llm_library="",
        runner=None,
        special_tokens=False,
        no_cloud=False,
        remotes=("ollama.com",),
        cloud_base_url="https://ollama.com:443",
        drain_timeout=5 * MINUTE,
        require_keys=False,
        ui=True,
        version="0.34.2",
        origins_listed=False,
    )


def test_every_variable_is_read() -> None:
    settings = quietly(
        OLLAMA_HOST="0.0.0.0:8080",
        OLLAMA_CONFIG="~/etc/server.toml",
        OLLAMA_ORIGINS="https://example.com",
        OLLAMA_DEBUG="1",
        OLLAMA_LOG_FORMAT="json",
        OLLAMA_MODELS="/mnt/models",
        OLLAMA_KEEP_ALIVE="10m",
        OLLAMA_MAX_LOADED_MODELS="3",
        OLLAMA_MAX_QUEUE="7",
        OLLAMA_NOPRUNE="true",
        OLLAMA_CONTEXT_LENGTH="4096",
        OLLAMA_NUM_PARALLEL="4",
        OLLAMA_SCHED_SPREAD="1",
        OLLAMA_FLASH_ATTENTION="1",
        OLLAMA_KV_CACHE_TYPE="q8_0",
        OLLAMA_PROMPT_CACHE="1.5GB",
        OLLAMA_PROMPT_CACHE_DISK="5%",
        OLLAMA_PROMPT_CACHE_SHARED="1",
        OLLAMA_STEP_TARGET="50ms",
        OLLAMA_SPECULATION="0",
        OLLAMA_GPU_OVERHEAD="512",
        OLLAMA_LOAD_TIMEOUT="90s",
        OLLAMA_LLM_LIBRARY="cuda",
        OLLAMA_RUNNER="inprocess",
        OLLAMA_SPECIAL_TOKENS="1",
        OLLAMA_NO_CLOUD="1",
        OLLAMA_REMOTES="GPU.example, ollama.com",
        OLLAMA_CLOUD_BASE_URL="http://127.0.0.1:8080/",
        OLLAMA_DRAIN_TIMEOUT="30s",
        OLLAMA_REQUIRE_KEYS="1",
        OLLAMA_UI="0",
        OLLAMA_VERSION="0.5.0",
    )
    assert settings == Settings(
        home=Path("/home/ada/.ollama"),
        endpoint=Endpoint("http", "0.0.0.0", 8080),
        config=Path("/home/ada/etc/server.toml"),
        origins=("https://example.com", *LOCAL_ORIGINS),
        debug=True,
        log_format="json",
        models=Path("/mnt/models"),
        keep_alive=10 * MINUTE,
        max_loaded_models=3,
        max_queue=7,
        noprune=True,
        context_length=4096,
        num_parallel=4,
        sched_spread=True,
        flash_attention=True,
        go_template=None,
        kv_cache_type="q8_0",
        prompt_cache=MemoryShare(1_610_612_736),
        prompt_cache_disk=MemoryShare(fraction=0.05),
        prompt_cache_shared=True,
        step_target=50_000_000,
        speculation=False,
        gpu_overhead=536_870_912,
        load_timeout=90_000_000_000,
        llm_library="cuda",
        runner="inprocess",
        special_tokens=True,
        no_cloud=True,
        remotes=("gpu.example", "ollama.com"),
        cloud_base_url="http://127.0.0.1:8080",
        drain_timeout=30_000_000_000,
        require_keys=True,
        ui=False,
        version="0.5.0",
    )


def test_the_table_describes_each_variable_once() -> None:
    names = [variable.name for variable in VARIABLES]
    assert len(names) == len(set(names)) == 33
    assert all(variable.help for variable in VARIABLES)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        quietly().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("OLLAMA_MAX_QUEUE", " 8 ", "max_queue", 8),
        ("OLLAMA_MAX_QUEUE", '"8"', "max_queue", 8),
        ("OLLAMA_MAX_QUEUE", "'8'", "max_queue", 8),
        ("OLLAMA_MAX_QUEUE", ' "8" ', "max_queue", 8),
        ("OLLAMA_MAX_QUEUE", "", "max_queue", 512),
        ("OLLAMA_MAX_QUEUE", "  ", "max_queue", 512),
        ("OLLAMA_MAX_QUEUE", '""', "max_queue", 512),
        ("OLLAMA_MAX_QUEUE", "0", "max_queue", 0),
        ("OLLAMA_MAX_QUEUE", "007", "max_queue", 7),
        ("OLLAMA_HOST", ' " 1.2.3.4 " ', "host", "1.2.3.4"),
        ("OLLAMA_HOST", "::1", "host", "::1"),
        ("OLLAMA_HOST", ":1234", "host", ""),
        ("OLLAMA_MODELS", "~/models", "models", Path("/home/ada/models")),
        ("OLLAMA_MODELS", "'/a b/c'", "models", Path("/a b/c")),
        ("OLLAMA_NOPRUNE", "t", "noprune", True),
        ("OLLAMA_NOPRUNE", "TRUE", "noprune", True),
        ("OLLAMA_NOPRUNE", "0", "noprune", False),
        ("OLLAMA_NOPRUNE", "False", "noprune", False),
        ("OLLAMA_FLASH_ATTENTION", "0", "flash_attention", False),
        ("OLLAMA_GO_TEMPLATE", "0", "go_template", False),
        ("OLLAMA_GO_TEMPLATE", "1", "go_template", True),
        ("OLLAMA_FLASH_ATTENTION", "false", "flash_attention", False),
        ("OLLAMA_FLASH_ATTENTION", "true", "flash_attention", True),
        ("OLLAMA_FLASH_ATTENTION", "", "flash_attention", None),
        ("OLLAMA_DEBUG", "true", "debug", True),
        ("OLLAMA_DEBUG", "2", "debug", True),
        ("OLLAMA_DEBUG", "0", "debug", False),
        ("OLLAMA_DEBUG", "-1", "debug", False),
        ("OLLAMA_KV_CACHE_TYPE", "Q4_0", "kv_cache_type", "q4_0"),
        ("OLLAMA_KV_CACHE_TYPE", "f16", "kv_cache_type", "f16"),
        ("OLLAMA_GPU_OVERHEAD", "1", "gpu_overhead", 1_048_576),
        ("OLLAMA_PROMPT_CACHE", "0", "prompt_cache", MemoryShare(0)),
        ("OLLAMA_PROMPT_CACHE", "4GB", "prompt_cache", MemoryShare(4 << 30)),
        ("OLLAMA_PROMPT_CACHE", "512 MiB", "prompt_cache", MemoryShare(512 << 20)),
        ("OLLAMA_PROMPT_CACHE", "1048576", "prompt_cache", MemoryShare(1 << 20)),
        ("OLLAMA_PROMPT_CACHE", "12.5%", "prompt_cache", MemoryShare(fraction=0.125)),
        ("OLLAMA_PROMPT_CACHE", "auto", "prompt_cache", None),
        ("OLLAMA_KEEP_ALIVE", "0", "keep_alive", 0),
        ("OLLAMA_KEEP_ALIVE", "-1", "keep_alive", FOREVER),
        ("OLLAMA_KEEP_ALIVE", "-1m", "keep_alive", FOREVER),
        ("OLLAMA_KEEP_ALIVE", "300", "keep_alive", 5 * MINUTE),
        ("OLLAMA_KEEP_ALIVE", "+60", "keep_alive", MINUTE),
        ("OLLAMA_KEEP_ALIVE", "1h30m", "keep_alive", 90 * MINUTE),
        ("OLLAMA_KEEP_ALIVE", "9999999999999999999", "keep_alive", FOREVER),
        ("OLLAMA_LOAD_TIMEOUT", "0", "load_timeout", FOREVER),
        ("OLLAMA_LOAD_TIMEOUT", "-5s", "load_timeout", FOREVER),
        ("OLLAMA_DRAIN_TIMEOUT", "0", "drain_timeout", 0),
        ("OLLAMA_DRAIN_TIMEOUT", "-1", "drain_timeout", FOREVER),
        ("OLLAMA_REMOTES", " Box , box,,10.0.0.2 ", "remotes", ("box", "10.0.0.2")),
        ("OLLAMA_CLOUD_BASE_URL", "https://localhost:8443", "cloud_base_url", "https://localhost:8443"),
        ("OLLAMA_CLOUD_BASE_URL", "http://[::1]:80/", "cloud_base_url", "http://[::1]:80"),
        ("OLLAMA_CLOUD_BASE_URL", "https://ollama.com:443", "cloud_base_url", "https://ollama.com:443"),
    ],
)
def test_forms_of_a_value(name: str, text: str, field: str, value: object) -> None:
    assert getattr(quietly(**{name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text", "field", "value", "warning"),
    [
        (
            "OLLAMA_VERSION",
            "latest",
            "version",
            "0.34.2",
            'OLLAMA_VERSION="latest" is not a version such as 0.34.2; using the default 0.34.2',
        ),
        (
            "OLLAMA_MAX_QUEUE",
            "many",
            "max_queue",
            512,
            'OLLAMA_MAX_QUEUE="many" is not a whole number; using the default 512',
        ),
        (
            "OLLAMA_MAX_QUEUE",
            "-1",
            "max_queue",
            512,
            'OLLAMA_MAX_QUEUE="-1" is not a whole number; using the default 512',
        ),
        (
            "OLLAMA_NUM_PARALLEL",
            "0",
            "num_parallel",
            1,
            'OLLAMA_NUM_PARALLEL="0" is not from 1 to 256; using the default 1',
        ),
        (
            "OLLAMA_CONTEXT_LENGTH",
            "9223372036854775808",
            "context_length",
            2048,
            'OLLAMA_CONTEXT_LENGTH="9223372036854775808" is not from 1 to 2147483647; using the default 2048',
        ),
        (
            "OLLAMA_GPU_OVERHEAD",
            "1073741824",
            "gpu_overhead",
            0,
            'OLLAMA_GPU_OVERHEAD="1073741824" is not from 0 to 1048576; using the default 0',
        ),
        (
            "OLLAMA_KEEP_ALIVE",
            "5 minutes",
            "keep_alive",
            5 * MINUTE,
            'OLLAMA_KEEP_ALIVE="5 minutes" is not a duration such as 30s, 5m or -1; using the default 5m',
        ),
        (
            "OLLAMA_PROMPT_CACHE",
            "101%",
            "prompt_cache",
            None,
            'OLLAMA_PROMPT_CACHE="101%" is more than 100%; using the default auto',
        ),
        (
            "OLLAMA_PROMPT_CACHE",
            "lots",
            "prompt_cache",
            None,
            'OLLAMA_PROMPT_CACHE="lots" is not a size such as 4GB or 10%; using the default auto',
        ),
        (
            "OLLAMA_KV_CACHE_TYPE",
            "q5_1",
            "kv_cache_type",
            "f16",
            'OLLAMA_KV_CACHE_TYPE="q5_1" is not one of f16, q8_0, q4_0; using the default f16',
        ),
        (
            "OLLAMA_NOPRUNE",
            "no",
            "noprune",
            True,
            'OLLAMA_NOPRUNE="no" is taken as true: the values are 1 or true, and 0 or false',
        ),
        (
            "OLLAMA_DEBUG",
            "junk",
            "debug",
            False,
            'OLLAMA_DEBUG="junk" is neither 1 or true nor 0 or false; using the default false',
        ),
        (
            "OLLAMA_HOST",
            "a:b:c",
            "host",
            "127.0.0.1",
            'OLLAMA_HOST="a:b:c" is not a host and a port; using the default 127.0.0.1:11434',
        ),
        (
            "OLLAMA_HOST",
            "0.0.0.0:99999",
            "host",
            "0.0.0.0",
            'OLLAMA_HOST="0.0.0.0:99999" has a port that is not a number from 0 to 65535; using port 11434',
        ),
    ],
)
def test_a_bad_value_is_named_and_replaced(
    name: str, text: str, field: str, value: object, warning: str
) -> None:
    settings, warnings = read(**{name: text})
    assert getattr(settings, field) == value
    assert warnings == [warning]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example,http://b.example:3000", ("https://a.example", "http://b.example:3000")),
        (" HTTPS://A.Example , http://*.b.example", ("https://a.example", "http://*.b.example")),
        ("*", ("*",)),
        ("https://a.example,", ("https://a.example",)),
        ("chrome-extension://abc", ("chrome-extension://abc",)),
        ("foo://*", ("foo://*",)),
        ("http://localhost", ()),
    ],
)
def test_listed_origins_come_beside_the_local_ones(text: str, expected: tuple[str, ...]) -> None:
    origins = quietly(OLLAMA_ORIGINS=text).origins
    assert origins[: len(expected)] == expected
    assert set(origins) == {*expected, *LOCAL_ORIGINS}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("example.com", '"example.com"'),
        ("https://ok.example, ftp://x", '"ftp://x"'),
        ("null", '"null"'),
        ("http://*.a.*", '"http://*.a.*"'),
    ],
)
def test_a_malformed_origin_stops_the_start(text: str, named: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(OLLAMA_ORIGINS=text)
    assert str(raised.value).startswith("OLLAMA_ORIGINS: ")
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_a_home_nothing_starts() -> None:
    with pytest.raises(SettingsError, match="HOME is not set"):
        Settings.read({}, lambda text: None)


@pytest.mark.parametrize(
    ("host", "address", "loopback"),
    [
        ("", "127.0.0.1:11434", True),
        ("[::1]", "[::1]:11434", True),
        ("0.0.0.0", "0.0.0.0:11434", False),
        (":8080", ":8080", False),
        ("localhost:1", "localhost:1", True),
    ],
)
def test_address(host: str, address: str, loopback: bool) -> None:
    settings = quietly(OLLAMA_HOST=host)
    assert join_host_port(settings.host, settings.port) == address
    assert is_loopback(settings.host) is loopback


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://ollama.example", "does not lead to this machine"),
        ("http://10.0.0.1", "does not lead to this machine"),
        ("http://127.0.0.1/api", "is more than a scheme and a host"),
        ("http://127.0.0.1?x=1", "is more than a scheme and a host"),
        ("http://me@127.0.0.1", "is not an http or https URL"),
        ("ftp://127.0.0.1", "is not an http or https URL"),
        ("127.0.0.1:80", "is not an http or https URL"),
        ("http://127.0.0.1:port", "is not an http or https URL"),
        ("http://[::1", "is not an http or https URL"),
    ],
)
def test_signatures_are_not_sent_to_any_place_that_is_set(text: str, why: str) -> None:
    warnings: list[str] = []
    settings = Settings.read({"HOME": "/home/ada", "OLLAMA_CLOUD_BASE_URL": text}, warnings.append)
    assert settings.cloud_base_url == "https://ollama.com:443"
    assert warnings == [f'OLLAMA_CLOUD_BASE_URL="{text}" {why}; using the default https://ollama.com:443']
