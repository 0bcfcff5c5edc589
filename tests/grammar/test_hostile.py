"""Schemas and grammars that are meant to break the server, and valid third-party grammars."""

from collections.abc import Callable
from typing import Any

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.grammar import grammar_for, limit_grammar, schema_to_gbnf
from tests.grammar.checker import Engine, matches


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    schema: Any = {"type": "null"}
    for _ in range(depth):
        schema = wrap(schema)
    return schema


def chain(length: int, link: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return {
        "$ref": "#/$defs/0",
        "$defs": {str(i): link(f"#/$defs/{i + 1}") for i in range(length)} | {str(length): {}},
    }


HOSTILE = {
    "arrays": nested(60_000, lambda inner: {"type": "array", "items": inner}),
    "objects": nested(60_000, lambda inner: {"type": "object", "properties": {"a": inner}}),
    "anyOf": nested(60_000, lambda inner: {"anyOf": [inner, {"type": "null"}]}),
    "allOf": nested(60_000, lambda inner: {"allOf": [inner]}),
    "enum": {"enum": [nested(60_000, lambda inner: [inner])]},
    "unknown": {"type": "null", "x": nested(60_000, lambda inner: [inner])},
    "70 arrays": nested(120, lambda inner: {"items": inner}),
    "chain": chain(60_000, lambda target: {"$ref": target}),
    "chain of anyOf": chain(6_000, lambda target: {"anyOf": [{"$ref": target}]}),
    "chain of allOf": chain(2_000, lambda target: {"allOf": [{"$ref": target}]}),
    "chain of refs and siblings": chain(2_000, lambda target: {"$ref": target, "minItems": 1}),
    "cycle": {"$ref": "#"},
    "cycle of two": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    "cycle by anyOf": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    "cycle by allOf": {"allOf": [{"$ref": "#"}], "type": "object"},
    "cycle by anyOf with siblings": {"minItems": 1, "anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    "doubling": chain(60, lambda target: {"anyOf": [{"$ref": target}, {"allOf": [{"$ref": target}]}]}),
    "many properties": {"properties": {str(i): {} for i in range(60_000)}},
    "long name": {"properties": {"x" * 600_000: {}}},
    "long constant": {"const": "x" * 600_000},
    "additional beside long names": {"properties": {"x" * 60_000: {}}, "additionalProperties": True},
    "distinct lengths": {"items": [{"type": "string", "maxLength": 2000 - i} for i in range(100)]},
    "groups": {"type": "string", "pattern": "(" * 60_000 + "a" + ")" * 60_000},
    "repetitions": {
        "type": "string",
        "pattern": "^((((a{99}){99}){99,}){99})" + "(b{1,1999}c{2,1998}){3,1000}" * 100,
    },
    "digits": {"minimum": 10**5000},
    "huge length": {"type": "string", "minLength": 10**400},
    "infinite": {"minLength": float("inf")},
    "not a number": {"const": float("nan")},
    "huge constant": {"const": 10**5000},
    "products": {"allOf": [{"anyOf": [{"minItems": i * j} for i in range(20)]} for j in range(20)]},
    "overlaps": {
        "oneOf": [{"properties": {"a": {"const": i}, "b": {}}, "required": ["a"]} for i in range(900)]
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_get_400(name: str) -> None:
    with pytest.raises(OllamaError) as caught:
        schema_to_gbnf(HOSTILE[name])
    assert caught.value.status == 400


def test_hostile_formats_that_are_not_schemas_get_400() -> None:
    with pytest.raises(OllamaError) as caught:
        grammar_for(nested(60_000, lambda inner: [inner]))
    assert caught.value.status == 400


def test_a_large_valid_schema_is_accepted() -> None:
    schema = {
        "type": "object",
        "properties": {f"p{i}": {"type": ["string", "null"], "maxLength": 200} for i in range(900)},
    }
    grammar = schema_to_gbnf(schema)
    assert matches(grammar, '{"p0":"a","p899":null}')


# --- grammars of others -----------------------------------------------------------------------

GRAMMARS = [
    'root ::= "a"',
    '# why\nroot ::= (\n "a" # in\n | [^\\n"\\]x-z]{2,3}\n)+ item\nitem ::= . | "\\u00e9" |\n  "b"?\n',
    "root ::= a-1*\r\na-1 ::= [0-9]{ 2 , }",
]


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_valid_grammars_pass(grammar: str) -> None:
    limit_grammar(grammar)
    engine = Engine(grammar)
    assert engine.accepted
    engine.close()


@pytest.mark.parametrize(
    "grammar",
    [
        "",
        "a ::= b",
        'rot ::= "a"',
        "root ::= nope",
        'root ::= "a',
        "root ::= [a",
        'root ::= ("a"',
        'root ::= "a")',
        "root ::= *",
        'root = "a"',
        'root ::= "\\q"',
        'root ::= "\\x4"',
        'root ::= "a"{2',
        'root ::= "a"{3000}',
        'root ::= "a"{2,1}',
        "root ::= root",
        'root ::= root "a" | "b"',
        'root ::= ("a"?)*',
        'root ::= "a" ; "b"',
        'root ::= e root "a"\ne ::= "b"?',
        "root ::= <a",
        'root ::= "a"\0',
    ],
)
def test_malformed_grammars_get_400(grammar: str) -> None:
    with pytest.raises(OllamaError) as caught:
        limit_grammar(grammar)
    assert caught.value.status == 400


HOSTILE_GRAMMARS = {
    "parentheses": "root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000,
    "chain": "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1}\n" for i in range(20_000)) + 'r20000 ::= "a"\n',
    "doubling": "root ::= r0\n"
    + "".join(f"r{i} ::= r{i + 1} | r{i + 1}\n" for i in range(60))
    + 'r60 ::= "a"\n',
    "expansion": 'root ::= "' + "x" * 1_000 + '"{2000}',
    "size": "root ::= " + '"a" ' * 200_000,
    "rules": "".join(f'r{i} ::= "a"{{0,2000}}\n' for i in range(100)) + "root ::= r0",
}


@pytest.mark.parametrize("name", HOSTILE_GRAMMARS)
def test_hostile_grammars_get_400(name: str) -> None:
    with pytest.raises(OllamaError) as caught:
        limit_grammar(HOSTILE_GRAMMARS[name])
    assert caught.value.status == 400
