"""Schemas whose keywords cannot be enforced, or only together, checked by llama.cpp's own grammar engine."""

import json
import random
from typing import Any

import jsonschema
import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.grammar import limit_grammar, schema_to_gbnf
from tests.grammar.checker import Engine, matches
from tests.grammar.test_properties import FORMAT_CHECKER, random_text
from tests.helpers.reference_data import read_json


def judged(schema: Any, texts: list[str]) -> list[str]:
    """Return those of the texts that the schema's grammar accepts."""
    grammar = schema_to_gbnf(schema, strict=True)
    return [text for text in texts if matches(grammar, text)]


FREE = [
    ({"const": "a", "format": "date"}, "#", "the values of the enumeration may not have the format date"),
    ({"not": {}}, "#", "keyword not is not supported"),
    ({"items": {"uniqueItems": True}}, "#/items", "keyword uniqueItems is not supported"),
    ({"anyOf": [{"type": "null"}, {"if": {}}]}, "#/anyOf/1", "keyword if is not supported"),
    ({"properties": {"a/b": {"multipleOf": 7}}}, "#/properties/a~1b", "keyword multipleOf is not enforced"),
    (
        {"properties": {"a": {}}, "patternProperties": {"b": {}}},
        "#",
        "keyword patternProperties is not supported",
    ),
    (
        {"properties": {"a": {}, "b": {}}, "minProperties": 2},
        "#",
        "minProperties and maxProperties are not enforced",
    ),
    (
        {"$ref": "http://example.org/s"},
        "#",
        '$ref "http://example.org/s" is not supported, only local ones (#/...) are',
    ),
    (
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        "#",
        "oneOf cannot be enforced: 0 and 1 may both be valid; use anyOf",
    ),
]


@pytest.mark.parametrize(("schema", "where", "reason"), FREE, ids=[json.dumps(case[0])[:60] for case in FREE])
def test_what_cannot_be_enforced_is_left_free_and_logged_or_refused_if_strict(
    schema: Any, where: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    engine = Engine(schema_to_gbnf(schema))
    assert engine.accepted
    engine.close()
    named = f"schema at {where}: {reason}"
    assert [record.getMessage() for record in caplog.records if record.name.startswith("ollama_tw")] == [
        f"the output may violate its schema: {named}"
    ]
    with pytest.raises(OllamaError) as error:
        schema_to_gbnf(schema, strict=True)
    assert (error.value.status, error.value.message) == (400, f"invalid format: {named}")


def test_patterns_that_match_the_empty_text_repeatedly() -> None:
    assert judged({"pattern": "^(a*)*$"}, ['""', '"aaa"', '"b"']) == ['""', '"aaa"']
    assert judged({"pattern": "^(|a){2}b$"}, ['"b"', '"aab"', '"aaab"']) == ['"b"', '"aab"']


def test_names_of_groups() -> None:
    for pattern in ("^(?<year>[0-9]+)$", "^(?P<year>[0-9]+)$"):
        assert judged({"pattern": pattern}, ['"1999"', '"x"']) == ['"1999"']


@pytest.mark.parametrize(
    ("schema", "texts", "taken"),
    [
        # A format and a pattern hold both, whichever is the stronger.
        (
            {"format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
            ["2024-02-29", "2023-02-29", "24-1-1"],
            ["2024-02-29"],
        ),
        ({"format": "date", "pattern": "^20"}, ["2024-02-29", "1999-01-01", "20"], ["2024-02-29"]),
        (
            {"format": "uuid", "pattern": "^[^-]+-[^-]+-4"},
            ["01234567-89ab-4def-0123-456789abcdef", "01234567-89ab-1def-0123-456789abcdef"],
            ["01234567-89ab-4def-0123-456789abcdef"],
        ),
        ({"format": "regex", "pattern": "^a"}, ["a", "b"], ["a"]),
        ({"format": "a thing"}, ["", "x"], ["", "x"]),
        (
            {"format": "uuid4"},
            ["01234567-89ab-4def-8123-456789abcdef", "x"],
            ["01234567-89ab-4def-8123-456789abcdef"],
        ),
        ({"format": "ipvanyaddress"}, ["10.0.0.1", "1:2:3:4:5:6:7:8", "x"], ["10.0.0.1", "1:2:3:4:5:6:7:8"]),
        ({"allOf": [{"pattern": "^a"}, {"pattern": "b$"}]}, ["ab", "axxb", "a", "b"], ["ab", "axxb"]),
        (
            {"pattern": "^(ab)*$", "minLength": 1, "maxLength": 4},
            ["", "ab", "abab", "ababab", "a"],
            ["ab", "abab"],
        ),
        ({"pattern": "mid"}, ["mid", "amidst", "md"], ["mid", "amidst"]),
        (
            {"pattern": "[\ud800-\udfffa]+", "format": "regex", "maxLength": 2},
            ["a", "aa", "aaa", "b"],
            ["a", "aa"],
        ),
    ],
)
def test_texts_with_several_constraints(schema: Any, texts: list[str], taken: list[str]) -> None:
    grammar = schema_to_gbnf({"type": "string", **schema}, strict=True)
    assert [text for text in texts if matches(grammar, json.dumps(text))] == taken


@pytest.mark.parametrize(
    ("schema", "texts", "taken"),
    [
        # Formats are narrower here than in their RFCs.
        ({"format": "ipv6", "pattern": "^::1$"}, ["::1", "1:1:1:1:1:1:1:1"], ["::1"]),
        ({"format": "email", "pattern": "^[a-z]+$"}, ["abc", "a@b.de"], ["abc"]),
        ({"format": "date", "maxLength": 3}, ["", "abc", "2024-02-29"], ["", "abc"]),
    ],
)
def test_a_format_that_the_other_keywords_exclude_is_left_free(
    schema: Any, texts: list[str], taken: list[str]
) -> None:
    schema = {"type": "string", **schema}
    grammar = schema_to_gbnf(schema)
    assert [text for text in texts if matches(grammar, json.dumps(text))] == taken
    with pytest.raises(OllamaError, match="the format is not enforced"):
        schema_to_gbnf(schema, strict=True)


@pytest.mark.parametrize(
    ("schema", "texts", "taken"),
    [
        (
            {"propertyNames": {"enum": ["a", "b"]}},
            ["{}", '{"a":1}', '{"a":1,"b":2}', '{"c":1}'],
            ["{}", '{"a":1}', '{"a":1,"b":2}'],
        ),
        (
            {
                "propertyNames": {"enum": ["a", "b"]},
                "additionalProperties": {"type": "null"},
                "required": ["b"],
            },
            ['{"a":null,"b":null}', '{"b":null}', '{"a":null}', '{"b":1}'],
            ['{"a":null,"b":null}', '{"b":null}'],
        ),
        (
            {"propertyNames": {"pattern": "^k[0-9]+$"}, "additionalProperties": {"type": "integer"}},
            ["{}", '{"k1":1,"k22":2}', '{"k":1}', '{"k1":null}'],
            ["{}", '{"k1":1,"k22":2}'],
        ),
        ({"propertyNames": {"type": "string"}}, ['{"x":[1]}'], ['{"x":[1]}']),
        (
            {"patternProperties": {"^k": {"type": "integer"}}, "additionalProperties": False},
            ["{}", '{"k1":1}', '{"k1":null}', '{"x":1}'],
            ["{}", '{"k1":1}'],
        ),
        (
            {"minProperties": 1, "maxProperties": 2},
            ["{}", '{"a":1}', '{"a":1,"b":2}', '{"a":1,"b":2,"c":3}'],
            ['{"a":1}', '{"a":1,"b":2}'],
        ),
        (
            {"additionalProperties": {"type": "integer"}, "minProperties": 2},
            ['{"a":1}', '{"a":1,"b":2}'],
            ['{"a":1,"b":2}'],
        ),
        ({"properties": {"a": {}, "b": {}}, "minProperties": 1}, ["{}", '{"b":1}'], ['{"b":1}']),
        ({"maxProperties": 0}, ["{}", '{"a":1}'], ["{}"]),
    ],
)
def test_names_and_numbers_of_members(schema: Any, texts: list[str], taken: list[str]) -> None:
    grammar = schema_to_gbnf({"type": "object", **schema}, strict=True)
    assert [text for text in texts if matches(grammar, text)] == taken


@pytest.mark.parametrize(
    ("schema", "values", "taken"),
    [
        ({"type": "integer", "multipleOf": 5}, [0, -5, 10, 125, 3, 12], [0, -5, 10, 125]),
        ({"type": "integer", "multipleOf": 4, "minimum": 0}, [0, 4, 100, 1016, -4, 6], [0, 4, 100, 1016]),
        ({"type": "integer", "multipleOf": 7, "minimum": 8, "maximum": 21}, [14, 21, 7, 15], [14, 21]),
        ({"type": "integer", "multipleOf": 0.5}, [3, -1], [3, -1]),
        ({"type": "number", "multipleOf": 0.01}, [1.25, 1, -0.5, 1.255], [1.25, 1, -0.5]),
        ({"type": "number", "multipleOf": 0.5}, [1.5, 2, 1.25], [1.5, 2]),
        (
            {"type": "number", "multipleOf": 0.25, "exclusiveMinimum": 0, "maximum": 1},
            [0, 0.25, 1, 1.25],
            [0.25, 1],
        ),
        ({"type": "number", "minimum": -1.7e308, "maximum": 3.4e38}, [5, -2.5], [5, -2.5]),
        ({"type": "number", "minimum": 1e-30}, [1, 0], [1]),
    ],
)
def test_numbers(schema: Any, values: list[Any], taken: list[Any]) -> None:
    grammar = schema_to_gbnf(schema, strict=True)
    assert [value for value in values if matches(grammar, json.dumps(value))] == taken


TEXTS = ('"a"', '"abc"', '"b1"', "7", "3", '["a"]', "[7]", '{"a":1}', '{"a":"x"}')


@pytest.mark.parametrize(
    ("schema", "taken"),
    [
        ({"enum": ["a", "abc", 7], "minLength": 2}, ['"abc"', "7"]),
        ({"enum": ["a", "b1", 7], "pattern": "[0-9]"}, ['"b1"', "7"]),
        ({"enum": ["a", 7, 3], "maximum": 5}, ['"a"', "3"]),
        ({"const": "a", "minLength": None, "format": "thing"}, ['"a"']),
        ({"enum": [["a"], [7], "a"], "items": {"type": "integer"}}, ['"a"', "[7]"]),
        ({"enum": [{"a": 1}, {"a": "x"}], "properties": {"a": {"type": "string"}}}, ['{"a":"x"}']),
    ],
)
def test_enumerations_with_other_keywords(schema: Any, taken: list[str]) -> None:
    grammar = schema_to_gbnf(schema, strict=True)
    assert [text for text in TEXTS if matches(grammar, text)] == taken


def test_null_is_as_good_as_absent() -> None:
    unused = dict.fromkeys(
        ("pattern", "format", "enum", "minLength", "items", "$ref", "allOf", "anyOf", "not", "uniqueItems")
    )
    assert schema_to_gbnf({"type": "string", **unused}, strict=True) == schema_to_gbnf({"type": "string"})
    assert schema_to_gbnf({"const": None}) != schema_to_gbnf({})


@pytest.mark.parametrize("count", [2001, 2002, 4001, 100_000])
def test_long_optional_arrays(count: int) -> None:
    # llama.cpp multiplies the repetitions within an optional group.
    grammar = schema_to_gbnf({"type": "array", "items": {"type": "integer"}, "maxItems": count})
    assert matches(grammar, "[1,2]")
    assert matches(grammar, "[]")
    limit_grammar(grammar)


def test_the_longest_optional_array() -> None:
    grammar = schema_to_gbnf({"type": "array", "items": {"type": "integer"}, "maxItems": 2001})
    assert matches(grammar, str([1] * 2001).replace(" ", ""))
    assert not matches(grammar, str([1] * 2002).replace(" ", ""))


GENERATED = read_json("generated_schemas")


@pytest.mark.parametrize("name", GENERATED)
def test_schemas_that_libraries_generate_are_taken(name: str) -> None:
    """Zod 4 and Pydantic 2 generated these; tests/data/README.md."""
    schema = GENERATED[name]
    grammar = schema_to_gbnf(schema)
    limit_grammar(grammar)
    text = random_text(grammar, random.Random(1))
    value = None if text is None else json.loads(text)
    kept = "emoji" not in name and "uniqueItems" not in json.dumps(schema)
    if text is not None and kept:
        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        kind(schema, format_checker=FORMAT_CHECKER).validate(value)


PUBLISHED = read_json("published_schemas")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schemas_are_taken(name: str) -> None:
    grammar = schema_to_gbnf(PUBLISHED[name])
    text = random_text(grammar, random.Random(2))
    json.loads(text or "null")


@pytest.mark.parametrize(
    "reference",
    [
        {"$ref": "#/$defs/node", "type": "object"},
        {"$ref": "#/$defs/node", "minProperties": 1},
        {"allOf": [{"$ref": "#/$defs/node"}], "type": "object"},
        {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}], "type": "object"},
    ],
)
def test_a_merged_reference_may_lead_back_to_itself(reference: dict[str, Any]) -> None:
    node = {"type": "object", "properties": {"size": {"type": "integer"}, "next": reference}}
    grammar = schema_to_gbnf({"$defs": {"node": node}, **reference})
    depth = 80
    assert matches(grammar, '{"next":' * depth + '{"size":1}' + "}" * depth)
    assert not matches(grammar, '{"next":' * depth + '{"size":"1"}' + "}" * depth)


def test_a_value_is_of_one_branch_of_each_one_of() -> None:
    numbers = {"oneOf": [{"type": "integer"}, {"type": "string"}]}
    texts = {"oneOf": [{"type": "string"}, {"type": "boolean"}]}
    grammar = schema_to_gbnf({"allOf": [numbers, texts]})
    assert matches(grammar, '"x"')
    assert not matches(grammar, "1")
    assert not matches(grammar, "true")


def test_too_many_combinations_of_branches_are_refused() -> None:
    one, two = ([{"const": number} for number in range(first, first + 20)] for first in (0, 10))
    for keyword in ("anyOf", "oneOf"):
        with pytest.raises(OllamaError, match=f"{keyword} with more than 256 combinations"):
            schema_to_gbnf({"allOf": [{keyword: one}, {keyword: two}]})
