"""Tokens of a backend that cannot read a vocabulary without the model, such as the fake one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_tw.inference import tokens
from tests.helpers.application import Application
from tests.helpers.models import CHATML, tiny


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    application = Application(tmp_path / "home", OLLAMA_NO_CLOUD="1")
    application.create("m", tiny(tmp_path, "m", chat_template=CHATML))
    yield application
    application.close()


def test_what_is_tokenized_at_once_has_limits(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_BYTES", 100)
    monkeypatch.setattr(tokens, "MAX_TOKENS", 3)
    error = "the text has {} bytes, of which at most 100 can be tokenized at once: divide it"
    assert app.post("/api/tokenize", {"model": "m", "text": "é" * 50}).status == 200
    reply = app.post("/api/tokenize", {"model": "m", "text": "é" * 51})
    assert (reply.status, reply.json) == (400, {"error": error.format(102)})
    assert app.post("/api/detokenize", {"model": "m", "tokens": [97] * 3}).status == 200
    reply = app.post("/api/detokenize", {"model": "m", "tokens": [97] * 4})
    assert (reply.status, reply.json) == (
        400,
        {"error": "at most 3 tokens can be converted at once: divide them"},
    )
    # The template adds to what the messages have.
    for length, size in ((101, 101), (95, 95 + len("<|user|><|assistant|>"))):
        body = {"model": "m", "messages": [{"role": "user", "content": "a" * length}]}
        reply = app.post("/v1/messages/count_tokens", body)
        assert (reply.status, reply.json["error"]["message"]) == (400, error.format(size))


def test_the_loaded_model_takes_the_place_of_the_vocabulary(tmp_path: Path) -> None:
    app = Application(tmp_path / "home", OLLAMA_NO_CLOUD="1")
    try:
        app.create("m", tiny(tmp_path, "m", chat_template=CHATML))
        reply = app.post("/api/tokenize", {"model": "m", "text": "abc"})
        assert (reply.status, reply.json) == (200, {"model": "m", "tokens": [97, 98, 99]})
        assert app.post("/api/detokenize", {"model": "m", "tokens": [97, 98]}).json["text"] == "ab"
        body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "abc"}]}
        counted = app.post("/v1/messages/count_tokens", body)
        assert counted.json == {"input_tokens": len("<|user|>abc<|assistant|>")}
        # All of them use one load.
        assert app.loads == 1
        app.set_reply("Hello")
        assert app.generate(model="m").json["response"] == "Hello"
        assert app.loads == 1
    finally:
        app.close()
