"""Edge cases of model references, and the errors for missing models."""

import json
from typing import Any

import pytest

from tests.helpers.application import Application

PATHS = ("generate", "chat", "embed", "embeddings")


def refusal(app: Application, path: str, body: Any) -> tuple[int, str]:
    reply = app.post(f"/api/{path}", body)
    assert list(reply.json) == ["error"]
    assert reply.headers["Content-Type"].startswith("application/json")
    return reply.status, reply.json["error"]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("generate", 404, "model '' not found"),
        ("chat", 400, "model is required"),
        ("embed", 404, "model '' not found"),
        ("embeddings", 400, "model is required"),
    ],
)
@pytest.mark.parametrize("body", [{}, {"model": ""}, {"model": "  "}, {"model": None}, b"null"])
def test_rows_1_to_4_no_model(app: Application, path: str, status: int, text: str, body: Any) -> None:
    found, error = refusal(app, path, body)
    # The reference is repeated as it was sent, including blanks.
    assert (found, error.replace("'  '", "''")) == (status, text)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"", b" \r\n\t"])
def test_row_4_no_body(app: Application, path: str, body: bytes) -> None:
    assert refusal(app, path, body) == (400, "missing request body")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["a b", "../x", "-x", "x:y:z", "a/b/c/d", "x" * 81, "ns.x/m", "é"])
def test_row_6_invalid_names(app: Application, path: str, name: str) -> None:
    assert refusal(app, path, {"model": name}) == (400, "invalid model name")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("generate", "model 'x' not found"),
        ("chat", "model 'x' not found"),
        ("embed", 'model "x" not found, try pulling it first'),
        ("embeddings", 'model "x" not found, try pulling it first'),
    ],
)
def test_row_7_models_that_are_not_installed(app: Application, path: str, text: str) -> None:
    assert refusal(app, path, {"model": "x"}) == (404, text)


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_row_21_top_logprobs_is_looked_at_before_the_model(app: Application, path: str) -> None:
    for number in (21, -1):
        assert refusal(app, path, {"model": "x", "top_logprobs": number}) == (
            400,
            "top_logprobs must be between 0 and 20",
        )


def test_row_31_keys_in_any_case_and_what_follows_the_body(app: Application) -> None:
    reply = app.post("/api/generate", b'{"MODEL":"m","Prompt":"hi","stream":false} trailing garbage')
    assert (reply.status, reply.json["response"]) == (200, "Hello")
    assert app.job.prompt == "<|user|>hi<|assistant|>"


def test_row_31_whatever_the_content_type(app: Application) -> None:
    body = json.dumps({"model": "m", "prompt": "hi", "stream": False}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        reply = app.request("POST", "/api/generate", body, {"Content-Type": kind})
        assert (reply.status, reply.json["response"]) == (200, "Hello")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["x:cloud", "gpt-oss:20b-cloud", "X:CLOUD"])
def test_row_70_models_that_run_elsewhere(app: Application, path: str, name: str) -> None:
    assert refusal(app, path, {"model": name}) == (
        403,
        "ollama cloud is disabled: remote model is unavailable",
    )


@pytest.mark.parametrize("path", PATHS)
def test_row_71_here_and_elsewhere_at_once(app: Application, path: str) -> None:
    assert refusal(app, path, {"model": "x:cloud:local"}) == (
        400,
        'use either :local or :cloud, not both: "x:cloud:local"',
    )


@pytest.mark.parametrize(
    "name", [" m ", "M", "m:latest", "m:local", "library/m", "registry.ollama.ai/library/M:LATEST"]
)
def test_row_72_names_are_echoed_as_they_were_sent(app: Application, name: str) -> None:
    assert app.generate(model=name).json["model"] == name
    assert app.chat("hi", model=name).json["model"] == name
    assert app.post("/api/embed", {"model": name, "input": "hi"}).json["model"] == name


def test_only_the_older_embeddings_tell_case_apart(app: Application) -> None:
    assert app.post("/api/embed", {"model": "EMBEDDER", "input": "hi"}).status == 200
    assert app.post("/api/embeddings", {"model": "embedder", "prompt": "hi"}).status == 200
    assert refusal(app, "embeddings", {"model": "EMBEDDER", "prompt": "hi"})[0] == 404


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"[]", b'"x"', b"5", b"true", b"{", b'{"model":', b"x", b"{'a':1}"])
def test_section_0_1_bodies_that_are_no_object(app: Application, path: str, body: bytes) -> None:
    assert refusal(app, path, body)[0] == 400


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 5),
        ("prompt", ["x"]),
        ("stream", "yes"),
        ("raw", 1),
        ("options", []),
        ("context", [1.5]),
        ("top_logprobs", 1.5),
        ("logprobs", "x"),
        ("truncate", "x"),
        ("shift", 0),
    ],
)
def test_section_0_1_fields_of_the_wrong_type_are_named(app: Application, field: str, value: Any) -> None:
    status, error = refusal(app, "generate", {"model": "m", "prompt": "hi", field: value})
    assert status == 400
    assert field in error


def test_section_0_1_null_is_absent(app: Application) -> None:
    fields = ("suffix", "system", "template", "context", "raw", "keep_alive", "images", "options", "think")
    nulls: dict[str, Any] = dict.fromkeys(
        [*fields, "format", "truncate", "shift", "logprobs", "top_logprobs"]
    )
    assert app.generate(**nulls).json["response"] == "Hello"
