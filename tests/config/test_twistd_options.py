import pytest
from twisted.python.usage import UsageError

from ollama_tw.config.settings import Settings
from ollama_tw.config.twistd_options import Options


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def test_without_options_the_variables_stand() -> None:
    base = {"HOME": "/h", "OLLAMA_DEBUG": "1", "OLLAMA_MAX_QUEUE": "7"}
    assert parsed().environ(base) == base


def test_an_option_overrides_its_variable() -> None:
    base = {"HOME": "/h", "OLLAMA_NUM_PARALLEL": "2", "OLLAMA_MAX_QUEUE": "7"}
    options = parsed(
        "--num-parallel", "4", "--debug", "--noprune", "--keep-alive", "-1", "--flash-attention=0"
    )
    settings = Settings.read(options.environ(base), pytest.fail)
    assert settings.num_parallel == 4
    assert settings.max_queue == 7
    assert settings.debug is True
    assert settings.noprune is True
    assert settings.keep_alive == 9223372036854775807
    assert settings.flash_attention is False
    assert base["OLLAMA_NUM_PARALLEL"] == "2"


def test_every_variable_is_an_option() -> None:
    assert set(parsed()) == {
        *(
            "host",
            "config",
            "origins",
            "debug",
            "log-format",
            "models",
            "keep-alive",
            "max-loaded-models",
            "max-queue",
        ),
        *("noprune", "context-length", "num-parallel", "sched-spread", "flash-attention", "go-template"),
        *(
            "kv-cache-type",
            "prompt-cache",
            "prompt-cache-disk",
            "prompt-cache-shared",
            "step-target",
            "gpu-overhead",
            "load-timeout",
            "llm-library",
            "runner",
            "special-tokens",
            "no-cloud",
            "drain-timeout",
            "require-keys",
            "speculation",
            "ui",
        ),
        *("remotes", "cloud-base-url", "ollama-version"),
        "listen",
    }


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UsageError):
        parsed("--nonsense")


def test_listen_may_be_repeated() -> None:
    assert parsed()["listen"] == ()
    assert parsed("--listen", "tcp:8080", "--listen", "unix:/run/o.sock")["listen"] == (
        "tcp:8080",
        "unix:/run/o.sock",
    )
