"""The response header that names what the reply may violate of the request's schemas."""

from collections.abc import Iterator
from typing import Any

import pytest

from ollama_tw.http.unenforced import HEADER
from tests.helpers.application import Application
from tests.helpers.models import application_with_models

USER = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
NAMED = "schema at #: keyword uniqueItems is not supported"

TOOL = {
    "name": "f",
    "parameters": {"type": "object", "properties": {"a\xe4": SCHEMA | {"not": {}}, "b": {"type": "weird"}}},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with application_with_models(tmp_path_factory.mktemp("unenforced")) as application:
        application.set_reply("[", "]")
        yield application


def with_schema(schema: Any) -> dict[str, dict[str, Any]]:
    named = {"name": "s", "schema": schema}
    return {
        "/api/generate": {"prompt": "hi", "format": schema},
        "/api/chat": {"messages": USER, "format": schema},
        "/v1/chat/completions": {
            "messages": USER,
            "n": 2,
            "response_format": {"type": "json_schema", "json_schema": named},
        },
        "/v1/responses": {"input": "hi", "text": {"format": {"type": "json_schema", **named}}},
        "/v1/messages": {
            "messages": USER,
            "max_tokens": 5,
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        },
    }


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", with_schema({}))
def test_a_schema_that_is_not_enforced_is_named(server: Application, path: str, stream: bool) -> None:
    reply = server.post(path, {"model": "m", "stream": stream, **with_schema(SCHEMA)[path]})
    assert (reply.status, reply.headers[HEADER]) == (200, NAMED)
    plain = server.post(path, {"model": "m", "stream": stream, **with_schema({"type": "array"})[path]})
    assert (plain.status, plain.headers.get(HEADER)) == (200, None)


def test_the_schemas_of_tools_are_named_each_time(server: Application) -> None:
    body = {"model": "tools", "messages": USER, "tools": [{"type": "function", "function": TOOL}]}
    for _ in range(2):
        reply = server.post("/api/chat", body)
        assert reply.status == 200
        named = reply.headers[HEADER].split("; ")
        assert len(named) == len(set(named))
        assert "tool f: schema at #/properties/a\\xe4: keyword uniqueItems is not supported" in named
        assert any(text.startswith("tool f: the schema of argument b is not enforced: ") for text in named)


def test_a_long_header_is_cut(server: Application) -> None:
    properties = {f"p{number}": SCHEMA for number in range(100)}
    schema = {"type": "object", "properties": properties}
    reply = server.post("/api/generate", {"model": "m", "prompt": "hi", "format": schema})
    assert reply.status == 200
    assert len(reply.headers[HEADER]) == 2000
