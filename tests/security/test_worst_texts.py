"""Texts of a megabyte that make regular expressions and loops slow are read in linear time.

A quadratic step would take hours; each test takes seconds, on a busy machine a minute.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from ollama_tw.cli.attachments import paths_in
from ollama_tw.dialects.anthropic.blocks import native_messages, system_text
from ollama_tw.errors import OllamaError
from ollama_tw.golang.durations import parse_keep_alive
from ollama_tw.grammar import limit_grammar, schema_to_gbnf
from ollama_tw.inference.images import without_tags
from ollama_tw.library.digests import parse_digest
from ollama_tw.library.manifests import ManifestError, decode_manifest
from ollama_tw.library.modelfile.parser import parse_modelfile
from ollama_tw.library.names import parse_name
from ollama_tw.llama.native import LoadReport
from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.output.stream_parser import StreamParser
from ollama_tw.prompt.conversation import without_past_thinking
from ollama_tw.prompt.outside_text import with_breaks
from ollama_tw.registry.challenge import parse_challenge
from ollama_tw.templates.budget import TemplateError
from ollama_tw.templates.capabilities import find_capabilities
from ollama_tw.templates.gotemplate import parse
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.templates.thinking_controls import find_controls
from ollama_tw.wire.decode import decode, decode_image
from ollama_tw.wire.native import ChatRequest, Message
from tests.helpers.models import WEATHER

pytestmark = pytest.mark.timeout(600)

_SIZE = 1 << 20
NOW = datetime(2024, 1, 2, tzinfo=UTC)


def of(*pieces: str) -> list[str]:
    return [(piece * (_SIZE // len(piece) + 1))[:_SIZE] for piece in pieces]


PLAIN = of(
    *("a", " ", "a ", "\t\n", "<", "<a", "[", "[A", "(", "%", "%(", "%[", "{", "{:"),
    *('"', "\\", "\\u", "/", "0", ".", "=", "-"),
)


def thoughts(text: str) -> None:
    messages = [Message("user", "a"), Message("assistant", text), Message("user", "b")]
    without_past_thinking(messages)


def breaks(text: str) -> None:
    with_breaks([Message("user", text)], lambda _: False)


def body(text: str) -> None:
    decode(f'{{"model":"{text}"}}'.encode(), ChatRequest, go_type="x")


def jinja(text: str) -> None:
    for use in ("messages[0].content % 1", "messages[0].content.format(1)"):
        template = ChatTemplate("{{ " + use + " }}", bos="", eos="")
        with suppress(TemplateError):
            template.render([Message("user", text)], now=NOW)


def go(text: str) -> None:
    parse("{{ printf .Prompt }}").render([], prompt=text, now=NOW)


def reply(family: str) -> Callable[[str], object]:
    """Return a reader of a model's output: in one piece, in pieces, and after the beginning of a call."""
    description = BY_NAME[family]
    opening = "" if description.calls is None else description.calls.opening

    def read(text: str) -> None:
        for output in (text, opening + text):
            for size in (_SIZE, 1024):
                parser = StreamParser(description, [WEATHER], parts=True)
                for begin in range(0, len(output), size):
                    parser.feed(output[begin : begin + size])
                parser.finish()

    return read


def schema(text: str) -> None:
    schemas: tuple[dict[str, Any], ...] = (
        {"pattern": text},
        {"enum": [text]},
        {"properties": {text: {}}},
        {"$ref": f"#/{text}"},
    )
    for keywords in schemas:
        with suppress(OllamaError):
            schema_to_gbnf(keywords)


def messages(text: str) -> None:
    blocks = [{"type": "text", "text": text}, {"type": "tool_use", "id": text, "name": text, "input": {}}]
    native_messages("messages[0]", "assistant", blocks)
    system_text("system", [{"type": "text", "text": f"x-anthropic-billing-header: {text}"}])


def chat_template(text: str) -> None:
    find_capabilities(text)
    find_controls(text)


READERS: dict[str, Callable[[str], object]] = {
    "log line": lambda text: LoadReport().note(2, f"print_info: general.name = {text}"),
    "log line of a buffer": lambda text: LoadReport().note(2, f"{text} buffer size = {text}"),
    "challenge": parse_challenge,
    "name": parse_name,
    "digest": parse_digest,
    "duration": parse_keep_alive,
    "manifest": lambda text: decode_manifest(text.encode()),
    "modelfile": parse_modelfile,
    "modelfile parameter": lambda text: parse_modelfile(f"FROM x\nPARAMETER a {text}"),
    "image tags": without_tags,
    "past thinking": thoughts,
    "marks": breaks,
    "body": body,
    "jinja formats": jinja,
    "go formats": go,
    "go template": parse,
    "grammar": limit_grammar,
    "schema": schema,
    "content blocks": messages,
    "chat template": chat_template,
    "image": lambda text: decode_image(f"data:image/png;base64,{text}"),
    "paths in a prompt": paths_in,
    **{
        f"reply of {family}": reply(family)
        for family in ("qwen3", "qwen3-coder", "harmony", "gemma4", "olmo3")
    },
}


@pytest.mark.parametrize("name", READERS)
def test_a_megabyte_of_the_worst_text(name: str) -> None:
    for text in PLAIN:
        try:
            READERS[name](text)
        except (OllamaError, ManifestError, TemplateError, ValueError):
            pass
