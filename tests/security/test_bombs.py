"""llama.cpp #26600, #25308: input that is nested 60,000 levels deep crashed the process.

Schemas and patterns one by one: ``tests/grammar/test_hostile.py``.
"""

import json
from typing import Any

import pytest

from tests.helpers.application import Application

DEEP = 60_000


def nested(depth: int, before: str, inner: str, after: str) -> str:
    return before * depth + inner + after * depth


SCHEMAS = {
    "items": nested(DEEP, '{"type":"array","items":', '{"type":"null"}', "}"),
    "properties": nested(DEEP, '{"type":"object","properties":{"a":', '{"type":"null"}', "}}"),
    "anyOf": nested(DEEP, '{"anyOf":[', '{"type":"null"}', "]}"),
    "enum": '{"enum":[' + nested(DEEP, "[", "", "]") + "]}",
    "const": '{"const":' + nested(DEEP, '{"a":', "1", "}") + "}",
}


def refused(app: Application, path: str, body: str) -> str:
    reply = app.post(f"/api/{path}", body.encode())
    assert reply.status == 400
    text: str = reply.json["error"]
    assert len(text) < 500
    return text


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("path", ["generate", "chat"])
def test_schemas(app: Application, path: str, name: str) -> None:
    body = '{"model":"m","prompt":"x","messages":[{"role":"user"}],"format":' + SCHEMAS[name] + "}"
    assert "deep" in refused(app, path, body)


def test_schemas_within_the_depth_of_json(app: Application) -> None:
    for levels in (60, 100, 120):
        schema = json.loads(nested(levels, '{"type":"array","items":', '{"type":"null"}', "}"))
        reply = app.generate(format=schema)
        assert reply.status in (200, 400)
    wide = {"type": "object", "properties": {str(number): {} for number in range(50_000)}}
    assert app.generate(format=wide).status == 400


@pytest.mark.parametrize(
    "field",
    ["options", "tools", "messages", "keep_alive", "think", "format", "input", "context", "unknown"],
)
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_any_field(app: Application, field: str, brackets: tuple[str, str]) -> None:
    before, after = brackets
    value = nested(DEEP, before, "1", after)
    for path in ("generate", "chat", "embed", "show", "create"):
        refused(app, path, f'{{"model":"m","{field}":{value}}}')


@pytest.mark.parametrize("tail", ["", "]" * 10, "x"], ids=["open", "half closed", "garbage"])
def test_brackets_that_never_close(app: Application, tail: str) -> None:
    refused(app, "chat", '{"model":"m","messages":' + "[" * 1_000_000 + tail)


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= " + "(" * DEEP + '"a"' + ")" * DEEP,
        'root ::= "a"{1000000}{1000000}',
        'root ::= "' + "x" * 2_000_000 + '"',
        "".join(f"r{number} ::= r{number + 1}\n" for number in range(DEEP)) + 'root ::= r0\nr60000 ::= "a"',
        "root ::= root",
        "root ::= nowhere",
        'root ::= "a',
        "",
    ],
    ids=["groups", "repetitions", "long", "chain", "left recursion", "unknown rule", "open", "empty"],
)
def test_grammars(app: Application, grammar: str) -> None:
    reply = app.generate(options={"grammar": grammar})
    # Grammars are parsed by the backend: tests/security/test_ggufs.py uses the real one.
    assert reply.status in (200, 400)
    if len(grammar) > 1000:
        assert reply.status == 400


@pytest.mark.parametrize("count", [6_000, 20_000])
def test_a_tool_of_many_megabytes(app: Application, count: int) -> None:
    properties: dict[str, Any] = {f"p{number}": {"type": "string"} for number in range(count)}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}
    reply = app.chat("hi", model="tools", tools=[tool] * 4)
    assert reply.status in (200, 400)
