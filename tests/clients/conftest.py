from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.helpers import PATIENCE
from tests.helpers.gguf_files import write_gguf
from tests.helpers.models import GO_PLAIN, GO_THINKING_TOOLS
from tests.helpers.server import PLUGINS, running


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server answer late: httpx gives up after five seconds."""
    for name in ("get", "post", "request"):
        monkeypatch.setattr(httpx, name, partial(getattr(httpx, name), timeout=PATIENCE))


OPENED_THINKING = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n<think>"
)
"""Template whose prompts open the thinking, also for a model that was not trained for it."""


THINKER = """
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content }}
{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% else %}<think>
{% endif %}{% endif %}"""
"""Chat template of a model that thinks and calls tools, whose prompts open the thinking."""


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server with scripted models, and yield its URL.

    They are ``plain``; ``talker``, with tool calls; and ``thinker``, with the chat template :data:`THINKER`.
    """
    home = tmp_path_factory.mktemp("scripted")
    gguf = write_gguf(home / "tiny.gguf").read_bytes()
    settings = {"OLLAMA_LLM_LIBRARY": "prompted", "OLLAMA_NUM_PARALLEL": "4"}
    with running(home, plugin_paths=[PLUGINS], **settings) as server:
        server.create("talker", gguf, template=GO_THINKING_TOOLS)
        server.create("plain", gguf, template=GO_PLAIN)
        thinker = write_gguf(home / "thinker.gguf", chat_template=THINKER)
        server.create("thinker", thinker.read_bytes())
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
