"""Tokens of a backend that cannot read a vocabulary without the model, such as the fake one."""

from pathlib import Path

from tests.helpers.application import Application
from tests.helpers.models import CHATML, tiny


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
