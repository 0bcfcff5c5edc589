"""Grammars that can read a text in very many ways are refused, ordinary ones are not."""

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.grammar import limit_grammar, schema_to_gbnf
from ollama_tw.grammar.ambiguity import longest_token
from ollama_tw.grammar.reader import read_grammar
from tests.grammar.checker import matches

WORDS = [f"word-{number}" for number in range(40)]
AMBIGUOUS = {
    "alternatives": "root ::= (" + " | ".join(["[a-z]"] * 40) + ")*",
    "repeated rules": f"root ::= ({' | '.join(WORDS)})*\n"
    + "".join(f"{word} ::= [a-z]+\n" for word in WORDS),
    "later": 'root ::= "start: " part\npart ::= item*\nitem ::= ' + " | ".join(["[a-z]+"] * 12),
    "nested": 'root ::= ("a" | "a" ("a" | "a" "a")+ | ("aa" | "a")*  "a")+',
    "negated": "root ::= (" + " | ".join(f"[^{letter}]" for letter in "abcdefghij") + ")+",
}
PLAIN = {
    "any text": "root ::= .*",
    "lines": 'root ::= (line "\\n")* line\nline ::= [^\\n]*',
    "words that begin alike": "root ::= (" + " | ".join(f'"word{number}"' for number in range(200)) + ")+",
    "optional parts": "root ::= " + " ".join(f'"{letter}"?' for letter in "abcdefghijkl"),
    "arithmetic": 'root ::= (expr "=" ws term "\\n")+\nexpr ::= term ([-+*/] term)*\n'
    'term ::= ident | num | "(" ws expr ")" ws\nident ::= [a-z] [a-z0-9_]* ws\n'
    "num ::= [0-9]+ ws\nws ::= [ \\t\\n]*",
    "two readings": 'root ::= ("a" | [^b]{2,3})+ .',
    "escapes": 'root ::= "\\x41\\u00e9" [\\]\\-\\x30-9] [-a] [a-]',
}


LONG = {
    "two readings": 'root ::= ("a" | [^b]{2,3})+ .',
    "the same twice": 'root ::= "x" ("-" | "-")*',
    "folders": 'root ::= ([^"\\n]+ "/")+ [^"\\n]+ ".yml"',
    "the pattern of a path": schema_to_gbnf(
        {"type": "string", "pattern": r"^(.+/)+(.+)\.(ya?ml)(@.+)?$"}, strict=True
    ),
}
"""Grammars that read each short text in few ways, and long ones in very many."""


@pytest.mark.parametrize("name", LONG)
def test_long_tokens_are_not_tried_where_they_have_many_readings(name: str) -> None:
    limit_grammar(LONG[name])
    assert longest_token(read_grammar(LONG[name])) == 8


@pytest.mark.parametrize("name", sorted(PLAIN.keys() - LONG.keys()))
def test_long_tokens_are_tried_in_an_ordinary_grammar(name: str) -> None:
    assert longest_token(read_grammar(PLAIN[name])) is None


def test_long_tokens_are_tried_by_an_ordinary_schema() -> None:
    fields = {"name": {"type": "string", "maxLength": 40}, "size": {"type": "number"}, "any": {}}
    grammar = schema_to_gbnf({"type": "object", "properties": fields, "required": ["name"]})
    assert longest_token(read_grammar(grammar)) is None


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_grammar_gets_400(name: str) -> None:
    with pytest.raises(OllamaError, match="too ambiguous") as caught:
        limit_grammar(AMBIGUOUS[name])
    assert caught.value.status == 400


@pytest.mark.parametrize("name", PLAIN)
def test_an_ordinary_grammar_passes(name: str) -> None:
    limit_grammar(PLAIN[name])


def test_the_grammar_of_an_ambiguous_pattern_is_not_ambiguous() -> None:
    pattern = "^(" + "|".join(["[a-z]+", "[a-y]+", "[a-x]+", "[a-w]+", "[b-z]+", "[c-z]+"]) + ")+$"
    grammar = schema_to_gbnf({"type": "string", "pattern": pattern}, strict=True)
    limit_grammar(grammar)
    assert matches(grammar, '"zebra"')
    assert not matches(grammar, '"a1"')
    variants = [{"properties": {"a": {"type": "string"}, f"b{number}": {}}} for number in range(60)]
    schema_to_gbnf({"anyOf": variants})
