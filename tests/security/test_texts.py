"""CVE-2026-22778: an error text leaked addresses. Error texts have no path, repr or traceback."""

import re
from typing import Any

import pytest

from ollama_tw.interfaces import RunnerError
from tests.helpers.application import Application

LEAKS = re.compile(
    r"0x[0-9a-f]{6,}|Traceback|File \"|<[a-z_.]+ object|\.py\b|site-packages|/home/|/tmp/|/usr/"
)

ODD: list[tuple[str, Any]] = [
    ("generate", {"model": "m", "prompt": "x", "template": "{{ .Nope.Nope }}{{ index .X 1 }}"}),
    ("generate", {"model": "m", "prompt": "x", "context": [-5]}),
    ("generate", {"model": "m", "prompt": "x", "context": [2**62]}),
    ("generate", {"model": "m", "prompt": "x", "options": {"grammar": 5}}),
    ("generate", {"model": "m", "prompt": "x", "format": {"$ref": "file:///etc/passwd"}}),
    ("generate", {"model": "m", "prompt": "x", "images": ["!"]}),
    ("chat", {"model": "m", "messages": [{"role": "user", "images": [5]}]}),
    ("chat", {"model": "tools", "messages": [{"role": "user"}], "tools": [{"function": 5}]}),
    (
        "chat",
        {"model": "go-tools", "messages": [{"role": "user"}], "tools": [{"function": {"parameters": 5}}]},
    ),
    ("chat", {"model": "go-tools", "messages": [{"role": "user"}], "tools": [{"function": {"name": 5}}]}),
    ("chat", {"model": "go-tools", "messages": [{"role": "user"}], "tools": [{}]}),
    ("embed", {"model": "embedder", "input": ["\ud800"]}),
    ("show", {"model": "m", "options": 5}),
    ("show", {"model": "nothing"}),
    ("create", {"model": "m2", "from": "m", "parameters": {"stop": {"a": object.__name__}}}),
    ("create", {"model": "m2", "from": "nothing"}),
    ("create", {"model": "m2", "from": "m", "messages": [{"role": 5}]}),
    ("create", {"model": "m2", "from": "m", "template": "{{ if }}"}),
    ("create", {"model": "m2", "files": {"x.gguf": "sha256:" + "9" * 64}}),
    ("copy", {"source": "m", "destination": ""}),
]


@pytest.mark.parametrize(("path", "body"), ODD, ids=range(len(ODD)))
def test_error_texts_leak_nothing(app: Application, path: str, body: dict[str, Any]) -> None:
    reply = app.post(f"/api/{path}", {"stream": False, **body})
    text = reply.body.decode()
    assert not LEAKS.search(text)
    assert str(app.home) not in text
    # Internal errors are reported with an incident number only; none may occur here.
    assert "internal server error" not in text


@pytest.mark.parametrize("stream", [True, False])
def test_internal_errors_have_an_incident_number_only(app: Application, stream: bool) -> None:
    for pieces in ((KeyError("/secret/place"),), ("a", KeyError("/secret/place"))):
        app.set_reply(*pieces)
        reply = app.generate(stream=stream)
        text = reply.body.decode()
        assert "secret" not in text
        assert not LEAKS.search(text)
        assert re.search(r"[0-9a-f]{8}", text.splitlines()[-1])


def test_errors_of_the_engine_are_passed_on_verbatim(app: Application) -> None:
    app.set_reply(RunnerError("the batch could not be decoded"))
    assert app.generate().json == {
        "error": "an error was encountered while running the model: the batch could not be decoded"
    }


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x.png", "https://example.com/x.png", "file:///etc/passwd", "/etc/passwd"]
)
def test_images_are_never_fetched(app: Application, url: str) -> None:
    """CVE-2026-24779: remote media fetched inside the network."""
    assert app.generate(images=[url]).status == 400
    assert app.chat(messages=[{"role": "user", "content": "x", "images": [url]}]).status == 400
