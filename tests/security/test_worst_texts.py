"""Texts of a megabyte that make regular expressions and loops slow are read in linear time.

A quadratic step would take hours; each test has a limit of seconds.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.golang.durations import parse_keep_alive
from ollama_tw.inference.images import without_tags
from ollama_tw.library.digests import parse_digest
from ollama_tw.library.manifests import ManifestError, decode_manifest
from ollama_tw.library.modelfile.parser import parse_modelfile
from ollama_tw.library.names import parse_name
from ollama_tw.llama.native import LoadReport
from ollama_tw.prompt.conversation import without_past_thinking
from ollama_tw.prompt.outside_text import with_breaks
from ollama_tw.registry.challenge import parse_challenge
from ollama_tw.templates.budget import TemplateError
from ollama_tw.templates.gotemplate import parse
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.wire.decode import decode
from ollama_tw.wire.native import ChatRequest, Message

pytestmark = pytest.mark.timeout(30)

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
}


@pytest.mark.parametrize("name", READERS)
def test_a_megabyte_of_the_worst_text(name: str) -> None:
    for text in PLAIN:
        try:
            READERS[name](text)
        except (OllamaError, ManifestError, TemplateError, ValueError):
            pass
