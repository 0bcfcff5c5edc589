"""The server of the contract tests, with one model per capability, and the server that is its cloud."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from twisted.logger import LogEvent
from zope.interface import implementer

from ollama_tw.interfaces import IVocabulary, IVocabularyReader, LoadPlan
from ollama_tw.testing.fake import FakeBackend, FakeRunner
from tests.cloud.conftest import add_stub
from tests.helpers.application import Application
from tests.helpers.models import CHATML, GO_INSERT, GO_THINKING_TOOLS, install, tiny
from tests.llama.tiny_rankers import write_ranker

MODELS = (
    *(
        "all",
        "m",
        "system",
        "thinker",
        "tools",
        "go-thinker",
        "go-tools",
        "go-insert",
        "fim",
        "embedder",
        "ranker",
    ),
    *("smollm2:135m", "all-minilm", "reranker", "stub", "m:cloud"),
)
"""Models of the server; ``stub`` and ``m:cloud`` run on the other server."""

NO_PROXY = "http://127.0.0.1:9"
"""A proxy that refuses every connection: nothing that a request names is reached."""

CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'


@implementer(IVocabularyReader)
class Backend(FakeBackend):
    """The fake backend, which also reads vocabularies."""

    def read_vocabulary(self, model_path: str) -> IVocabulary:
        return cast(IVocabulary, FakeRunner(LoadPlan(model_path)))


def reply(prompt: str) -> Iterable[str]:
    """Reply with thinking and content, and with a tool call in pieces if the prompt has tools."""
    words = ["<think>", "Hm", "</think>", "Bees", " make", " honey", "."]
    call = [CALL[at : at + 12] for at in range(0, len(CALL), 12)]
    return [*words, *call] if "tools" in prompt else words


@contextmanager
def contract_server(home: Path, proxy: str = NO_PROXY, **variables: str) -> Iterator[Application]:
    """Run a server with :data:`MODELS`, except those of its cloud. ``proxy`` is used for registries."""
    environment = pytest.MonkeyPatch()
    environment.setenv("HTTP_PROXY", proxy)
    environment.setenv("HTTPS_PROXY", proxy)
    try:
        server = Application(home / "home", backend=Backend(reply), **variables)
    finally:
        environment.undo()
    try:
        install(server, home)
        server.create("all", tiny(home, "all"), template=GO_THINKING_TOOLS + GO_INSERT)
        server.create("smollm2:135m", tiny(home, "smollm2", chat_template=CHATML))
        server.create("all-minilm", tiny(home, "minilm", metadata={"llama.pooling_type": 1}))
        write_ranker(home / "ranker.gguf")
        for name in ("ranker", "reranker"):
            server.create(name, (home / "ranker.gguf").read_bytes())
        yield server
    finally:
        server.close()


@contextmanager
def cloud_and_server(home: Path) -> Iterator[Application]:
    """Run a server with another one as its cloud and proxy; the proxy rejects all requests."""
    with contract_server(home / "far", OLLAMA_NO_CLOUD="1") as cloud:
        address = f"http://127.0.0.1:{cloud.port}"
        with contract_server(
            home / "near", address, OLLAMA_CLOUD_BASE_URL=address, OLLAMA_REMOTES="127.0.0.1"
        ) as server:
            add_stub(server, "stub", address, "tools")
            yield server


def tracebacks(events: Iterable[LogEvent]) -> list[str]:
    """Return the tracebacks of the failures among the events."""
    return [event["log_failure"].getTraceback() for event in events if event.get("log_failure")]
