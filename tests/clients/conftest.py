from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.gguf_files import write_gguf
from tests.helpers.models import GO_PLAIN, GO_THINKING_TOOLS
from tests.helpers.server import PLUGINS, running

OPENED_THINKING = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n<think>"
)
"""Template whose prompts open the thinking, also for a model that was not trained for it."""


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server with the models ``plain`` and ``talker``, with tool calls, and yield its URL."""
    home = tmp_path_factory.mktemp("scripted")
    gguf = write_gguf(home / "tiny.gguf").read_bytes()
    settings = {"OLLAMA_LLM_LIBRARY": "prompted", "OLLAMA_NUM_PARALLEL": "4"}
    with running(home, plugin_paths=[PLUGINS], **settings) as server:
        server.create("talker", gguf, template=GO_THINKING_TOOLS)
        server.create("plain", gguf, template=GO_PLAIN)
        server.create("someone/plain:1b", gguf, template=GO_PLAIN)
        yield server.url


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server with a real model.

    It is ``smollm2``; ``smollm2-tools`` has a template for tools, ``smollm2-thinks`` one that opens thinking.
    """
    gguf = Path(smollm2_gguf).read_bytes()
    home = tmp_path_factory.mktemp("smollm2")
    with running(home, OLLAMA_LLM_LIBRARY="cpu", OLLAMA_NUM_PARALLEL="2") as server:
        server.create("smollm2", gguf)
        server.create("smollm2-tools", gguf, template=GO_THINKING_TOOLS)
        server.create("smollm2-thinks", gguf, template=OPENED_THINKING)
        yield server.url


@pytest.fixture(scope="session")
def qwen(qwen_gguf: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server with a real model that calls tools, ``qwen``."""
    with running(tmp_path_factory.mktemp("qwen"), OLLAMA_LLM_LIBRARY="cpu") as server:
        server.create("qwen", Path(qwen_gguf).read_bytes(), parameters={"num_ctx": 2048})
        yield server.url
