"""Tiny models for the fake backend, one per capability. The backend's tokens are characters."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.application import Application
from tests.helpers.gguf_files import METADATA, write_gguf

CHATML = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
THINKING = (
    "{% for message in messages %}<|{{ message.role }}|>"
    "{{ message.content.split('</think>')[-1] }}{% endfor %}<|assistant|>{# <think> </think> #}"
)
TOOLS = (
    "{% if tools %}<|tools|>{{ tools | tojson }}{% endif %}{% for message in messages %}"
    "<|{{ message.role }}|>{{ message.content }}{% for call in message.tool_calls %}<tool_call>"
    "{{ call | tojson }}</tool_call>{% endfor %}{% endfor %}<|assistant|>{# <tool_call> </tool_call> #}"
)
GO_THINKING = (
    "{{ range .Messages }}<|{{ .Role }}|>{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "{{ .Content }}{{ end }}<|assistant|>"
)
GO_TOOLS = (
    "{{ if .Tools }}<|tools|>{{ .Tools }}{{ end }}{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}"
    '{{ if .ToolCalls }}<tool_call>{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", '
    '"arguments": {{ .Function.Arguments }}}{{ end }}</tool_call>{{ end }}{{ end }}<|assistant|>'
)
GO_INSERT = "{{ if .Suffix }}[SUFFIX]{{ .Suffix }}[PREFIX]{{ .Prompt }}{{ else }}{{ .Prompt }}{{ end }}"
GO_THINKING_TOOLS = (
    "{{ if .System }}system: {{ .System }}\n{{ end }}"
    "{{ if .Tools }}tools: {{ .Tools }}\n{{ end }}"
    "{{ range .Messages }}{{ .Role }}: {{ .Content }}"
    "{{ if and .Thinking true }}<think>{{ .Thinking }}</think>{{ end }}"
    '{{ if .ToolCalls }}<tool_call>\n{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", '
    '"arguments": {{ .Function.Arguments }}}\n{{ end }}</tool_call>{{ end }}\n{{ end }}assistant: '
)
"""Thoughts and tool calls in one template."""

GO_PLAIN = "{{ if .System }}system: {{ .System }}\n{{ end }}user: {{ .Prompt }}\nassistant: "

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def tiny(directory: Path, name: str, **fields: Any) -> bytes:
    """Return the contents of a GGUF file. ``metadata`` is added to the metadata of all these models."""
    metadata = {**METADATA, **fields.pop("metadata", {}), "general.basename": name}
    return write_gguf(directory / f"{name}.gguf", metadata=metadata, **fields).read_bytes()


@contextmanager
def application_with_models(directory: Path, **variables: Any) -> Iterator[Application]:
    """Run a server with the models of :func:`install`; its home is below ``directory``."""
    application = Application(directory / "home", **variables)
    install(application, directory)
    yield application
    application.close()


def install(application: Application, directory: Path) -> None:
    """Install the models.

    ``m`` only completes. The Jinja template of ``thinker`` and ``tools`` and the Go template of
    ``go-thinker``, ``go-tools`` and ``go-insert`` declare one capability each. ``fim`` has the tokens ``<``,
    ``|`` and ``>`` for prefix, suffix and middle, ``embedder`` a pooling type, ``system`` a SYSTEM and
    MESSAGEs. ``twin`` has the weights of ``m``.
    """
    plain = tiny(directory, "m", chat_template=CHATML)
    application.create("m", plain)
    application.create("twin", plain, parameters={"temperature": 0.5})
    application.create(
        "system",
        plain,
        system="Be brief.",
        messages=[{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}],
    )
    application.create("go-thinker", plain, template=GO_THINKING)
    application.create("go-tools", plain, template=GO_TOOLS)
    application.create("go-insert", plain, template=GO_INSERT)
    application.create("thinker", tiny(directory, "thinker", chat_template=THINKING))
    application.create("tools", tiny(directory, "tools", chat_template=TOOLS))
    tokens = {
        f"tokenizer.ggml.fim_{part}_token_id": ord(mark)
        for part, mark in (("pre", "<"), ("suf", "|"), ("mid", ">"))
    }
    application.create("fim", tiny(directory, "fim", chat_template=CHATML, metadata=tokens))
    application.create("embedder", tiny(directory, "embedder", metadata={"llama.pooling_type": 1}))
