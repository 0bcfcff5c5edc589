"""Structured output, checked by llama.cpp's own grammar engine."""

import json
from typing import Any

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.grammar import grammar_for, schema_to_gbnf
from ollama_tw.grammar.reader import follows_prefixes
from tests.grammar.checker import matches


def refusal(schema: Any, *, strict: bool = False) -> str:
    with pytest.raises(OllamaError) as caught:
        schema_to_gbnf(schema, strict=strict)
    assert caught.value.status == 400
    return caught.value.message


def judged(schema: Any, texts: list[str]) -> list[str]:
    """Return those of the texts that the schema's grammar accepts."""
    grammar = schema_to_gbnf(schema)
    return [text for text in texts if matches(grammar, text)]


# --- the values of format ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, ""])
def test_no_format_is_no_grammar(value: object) -> None:
    assert grammar_for(value) is None


@pytest.mark.parametrize("value", ["json", {}])
def test_json_and_the_empty_schema_are_any_object(value: object) -> None:
    grammar = grammar_for(value)
    assert grammar is not None
    good = ["{}", '{"a": 1}', '{\n  "a": [1, -2.5e3, true, null, {"b": "\\u00e9\\n\\"é"}]\n}']
    assert [text for text in good if matches(grammar, text)] == good
    bad = [
        "[]",
        '"a"',
        "1",
        "",
        "{} ",
        " {}",
        "{a:1}",
        '{"a":1,}',
        '{"a":"\n"}',
        '{"a":01}',
        '{"a":"\\ud800"}',
    ]
    assert [text for text in bad if matches(grammar, text)] == []


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("xml", r'"\"xml\""'),
        (True, '"true"'),
        (False, '"false"'),
        (7, '"7"'),
        ([1, "é\\"], r'"[1,\"é\\\\\"]"'),
    ],
)
def test_other_formats_are_rejected_with_ollamas_text(value: object, quoted: str) -> None:
    with pytest.raises(OllamaError) as caught:
        grammar_for(value)
    assert caught.value.status == 400
    assert caught.value.message == f'invalid format: {quoted}; expected "json" or a valid JSON Schema object'


def test_a_mapping_is_a_schema() -> None:
    assert grammar_for({"type": "boolean"}) == 'root ::= boolean\nboolean ::= "true" | "false"\n'


# --- literal grammars -------------------------------------------------------------------------


def test_the_text_of_a_small_grammar() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}
    assert schema_to_gbnf(schema) == (
        'root ::= object\nws ::= "" | " " | "\\n" [ \\x09]{0,20}\n'
        'object ::= "{" ws "\\"a\\":" ws "null" ws "}"\n'
    )


def test_constants_are_escaped() -> None:
    assert (
        schema_to_gbnf({"const": 'a"\\\n\x00é'})
        == 'root ::= enum\nenum ::= "\\"a\\\\\\"\\\\\\\\\\\\n\\\\u0000\\u00E9\\""\n'
    )


# --- what each keyword takes ------------------------------------------------------------------

KEYWORDS = [
    ({"type": "string"}, ['""', '"é😀"', '"\\ud800"', '"a', "1", '"\t"'], ['""', '"é😀"']),
    ({"type": "integer"}, ["0", "-7", "12", "-0", "01", "1.0", "+1"], ["0", "-7", "12"]),
    ({"type": "number"}, ["0", "-7.25", "1e5", "1E-07", ".5", "1.", "NaN"], ["0", "-7.25", "1e5", "1E-07"]),
    ({"type": "boolean"}, ["true", "false", "null", "True"], ["true", "false"]),
    ({"type": ["string", "null"]}, ['"a"', "null", "1"], ['"a"', "null"]),
    ({}, ["1", '"a"', "[]", "{}", "null", "[{}]", "x"], ["1", '"a"', "[]", "{}", "null", "[{}]"]),
    (
        {"type": "string", "minLength": 2, "maxLength": 3},
        ['"a"', '"aé"', '"\\n\\u00e9a"', '"abcd"'],
        ['"aé"', '"\\n\\u00e9a"'],
    ),
    (
        {"enum": ["a", 1, None, {"b": [1]}]},
        ['"a"', "1", "null", '{"b": [1]}', "2"],
        ['"a"', "1", "null", '{"b": [1]}'],
    ),
    ({"type": "string", "enum": ["a", 1]}, ['"a"', "1"], ['"a"']),
    ({"const": {"a": []}}, ['{"a":[]}', '{ "a": [] }', "{}"], ['{"a":[]}', '{ "a": [] }']),
    (
        {"type": "integer", "minimum": -5, "exclusiveMaximum": 120},
        ["-6", "-5", "0", "99", "119", "120"],
        ["-5", "0", "99", "119"],
    ),
    ({"type": "integer", "minimum": 0.5}, ["0", "1", "123456789"], ["1", "123456789"]),
    (
        {"type": "integer", "format": "int32"},
        ["2147483647", "2147483648", "-2147483648"],
        ["2147483647", "-2147483648"],
    ),
    (
        {"type": "number", "minimum": 0, "maximum": 1},
        ["0", "0.5", "1", "1.0", "1.01", "-0.1"],
        ["0", "0.5", "1", "1.0"],
    ),
    ({"type": "number", "exclusiveMinimum": -1.5}, ["-1.5", "-1.49", "-2", "3.25"], ["-1.49", "3.25"]),
    (
        {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "maximum": 2, "exclusiveMaximum": False},
        ["0", "1", "2", "3"],
        ["1", "2"],
    ),
    (
        {"type": "integer", "minimum": 0, "exclusiveMinimum": False, "maximum": 2, "exclusiveMaximum": True},
        ["-1", "0", "1", "2"],
        ["0", "1"],
    ),
    ({"type": "integer", "exclusiveMinimum": True, "maximum": 0}, ["-1", "0", "1"], ["-1", "0"]),
    (
        {"enum": [1, 2], "minimum": 1, "exclusiveMinimum": True},
        ["1", "2"],
        ["2"],
    ),
    (
        {"type": "array", "items": {"type": "null"}},
        ["[]", "[null]", "[null, null]", "[1]", "[null,]"],
        ["[]", "[null]", "[null, null]"],
    ),
    (
        {"items": {"const": 1}, "minItems": 2, "maxItems": 3},
        ["[1]", "[1,1]", "[1,1,1]", "[1,1,1,1]"],
        ["[1,1]", "[1,1,1]"],
    ),
    ({"type": "array", "maxItems": 0}, ["[]", "[1]"], ["[]"]),
    (
        {"prefixItems": [{"const": 1}, {"const": 2}]},
        ["[]", "[1]", "[1,2]", "[1,2,3]", "[2]"],
        ["[]", "[1]", "[1,2]"],
    ),
    (
        {"prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 2},
        ["[1]", "[1,2]", "[1,2,2]", "[1,1]"],
        ["[1,2]", "[1,2,2]"],
    ),
    ({"items": [{"const": 1}], "additionalItems": False}, ["[]", "[1]", "[1,1]"], ["[]", "[1]"]),
    ({"prefixItems": [{"const": 1}], "minItems": 2}, ["[1]", "[1,true]", "[1,true,1]"], ["[1,true]"]),
    ({"type": "object"}, ["{}", '{"a":{"b":[]}}', "[]"], ["{}", '{"a":{"b":[]}}']),
    ({"type": "object", "properties": {}}, ["{}", '{"a":1}'], ["{}"]),
    (
        {"type": "object", "additionalProperties": {"const": 1}},
        ["{}", '{"a":1}', '{"a":1,"b":1}', '{"a":2}'],
        ["{}", '{"a":1}', '{"a":1,"b":1}'],
    ),
    ({"required": ["a"]}, ["{}", '{"a":[1]}', '{"b":1}'], ['{"a":[1]}']),
    ({"anyOf": [{"const": 1}, {"type": "null"}, False]}, ["1", "null", "2"], ["1", "null"]),
    (
        {"oneOf": [{"type": "string", "maxLength": 1}, {"type": "integer", "maximum": 1, "minimum": 1}]},
        ['"a"', "1", "2"],
        ['"a"', "1"],
    ),
    (
        {"type": ["integer", "string"], "anyOf": [{"maximum": 1, "minimum": 0}, {"type": "null"}]},
        ["0", "2", "null"],
        ["0"],
    ),
    ({"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"const": 1}}}, ["1", "2"], ["1"]),
    (
        {"$ref": "#/definitions/x", "maximum": 2, "definitions": {"x": {"type": "integer", "minimum": 1}}},
        ["0", "1", "2", "3"],
        ["1", "2"],
    ),
    (
        {"title": "t", "description": "d", "x-own": {"not": 1}, "default": 1, "type": "null"},
        ["null", "1"],
        ["null"],
    ),
    ({"type": "null", "uniqueItems": False, "unevaluatedProperties": False}, ["null"], ["null"]),
]


@pytest.mark.parametrize(
    ("schema", "texts", "taken"), KEYWORDS, ids=[json.dumps(case[0])[:60] for case in KEYWORDS]
)
def test_keyword(schema: Any, texts: list[str], taken: list[str]) -> None:
    assert judged(schema, texts) == taken


def test_optional_properties_may_be_left_out_in_order() -> None:
    schema = {
        "type": "object",
        "properties": {name: {"const": 1} for name in "abc"},
        "required": ["b"],
    }
    texts = ['{"b":1}', '{"a":1,"b":1}', '{"b":1,"c":1}', '{ "a": 1, "b": 1, "c": 1 }']
    wrong = ["{}", '{"a":1}', '{"b":1,"a":1}', '{"a":1,"c":1}', '{,"b":1}', '{"b":1,}', '{"a":1"b":1}']
    assert judged(schema, texts + wrong) == texts


def test_all_properties_optional() -> None:
    schema = {"properties": {name: {"const": 1} for name in "abc"}}
    texts = ["{}", '{"a":1}', '{"b":1}', '{"c":1}', '{"a":1,"c":1}', '{"a":1,"b":1,"c":1}']
    assert judged(schema, [*texts, '{"c":1,"a":1}', '{"a":1,,"c":1}']) == texts


def test_additional_names_differ_from_declared_ones() -> None:
    schema = {
        "type": "object",
        "properties": {"ab": {"const": 1}, "a": {"const": 2}, 'q"': {"const": 3}},
        "required": ["ab"],
        "additionalProperties": {"type": "null"},
    }
    texts = [
        '{"ab":1}',
        '{"ab":1,"a":2,"b":null}',
        '{"ab":1,"abc":null,"ac":null,"q":null}',
        '{"ab":1,"q\\"":3}',
    ]
    wrong = [
        '{"ab":1,"a":null}',
        '{"ab":1,"ab":null}',
        '{"ab":1,"\\u0061b":null}',
        '{"ab":1,"b":1}',
        '{"ab":1,"q"":null}',
    ]
    assert judged(schema, texts + wrong) == texts


def test_white_space_is_bounded() -> None:
    schema = {"type": "array", "items": {"const": 1}}
    texts = ["[1, 1]", "[\n    1,\n    1\n]", "[\n" + " " * 20 + "1]"]
    assert judged(schema, [*texts, "[  1]", "[\n\n1]", "[\n" + " " * 21 + "1]", "[1] ", "[1 ,1]"]) == texts


def test_counts_beyond_llama_cpps_limit() -> None:
    grammar = schema_to_gbnf({"type": "string", "minLength": 2001, "maxLength": 4100})
    lengths = [2000, 2001, 3000, 4000, 4001, 4100, 4101]
    assert [length for length in lengths if matches(grammar, '"' + "x" * length + '"')] == [
        2001,
        3000,
        4000,
        4001,
        4100,
    ]


def test_recursive_references() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}},
        "required": ["next"],
    }
    texts = ['{"next":null}', '{"next":{"next":{"next":null}}}']
    assert judged({"$ref": "#/$defs/n", "$defs": {"n": node}}, [*texts, '{"next":{}}', "null"]) == texts
    tree = {"type": "array", "items": {"$ref": "#"}}
    assert judged(tree, ["[]", "[[], [[]]]", "[1]"]) == ["[]", "[[], [[]]]"]


def test_all_of_merges_objects() -> None:
    schema = {
        "$defs": {"base": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}},
        "allOf": [
            {"$ref": "#/$defs/base"},
            {
                "properties": {"name": {"const": "x"}, "id": {"minimum": 5, "maximum": 6}},
                "required": ["name"],
            },
        ],
    }
    assert judged(schema, ['{"id":5,"name":"x"}', '{"id":4,"name":"x"}', '{"id":5}']) == [
        '{"id":5,"name":"x"}'
    ]


def test_all_of_keeps_the_common_values() -> None:
    schema = {"allOf": [{"enum": [1, True, "a", [0]]}, {"enum": [1.0, "a", False, [False]]}]}
    assert judged(schema, ["1", "true", "false", '"a"', "[0]"]) == ["1", '"a"']


def test_any_of_beside_properties_requires_one_of_several() -> None:
    schema = {
        "properties": {"a": {"const": 1}, "b": {"const": 2}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    texts = ['{"a":1}', '{"b":2}', '{"a":1,"b":2}']
    assert judged(schema, [*texts, "{}"]) == texts


def test_all_of_with_a_closed_object_drops_forbidden_members() -> None:
    schema = {
        "allOf": [
            {"properties": {"a": {"const": 1}}, "additionalProperties": False},
            {"properties": {"a": True, "b": {"const": 2}}},
        ]
    }
    assert judged(schema, ["{}", '{"a":1}', '{"a":1,"b":2}', '{"b":2}']) == ["{}", '{"a":1}']


def test_one_of_with_a_discriminator() -> None:
    def animal(kind: str) -> dict[str, Any]:
        return {"properties": {"kind": {"const": kind}, "n": {"type": "integer"}}, "required": ["kind"]}

    schema = {
        "$defs": {"Cat": animal("cat"), "Dog": animal("dog")},
        "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
        "discriminator": {"propertyName": "kind"},
    }
    texts = ['{"kind":"cat"}', '{"kind":"dog","n":1}']
    assert judged(schema, [*texts, "{}", '{"kind":"cow"}']) == texts


def test_one_of_distinguished_by_required_members() -> None:
    schema = {"oneOf": [{"properties": {n: {"const": 1}}, "required": [n]} for n in "ab"]}
    assert judged(schema, ['{"a":1}', '{"b":1}', '{"a":1,"b":1}']) == ['{"a":1}', '{"b":1}']


PATTERNS = [
    ("^[a-c]+$", ["", "abc", "abd"], ["abc"]),
    ("b", ["abc", "b", "ac"], ["abc", "b"]),
    ("^a|b$", ["ax", "xb", "xx"], ["ax", "xb"]),
    (r"^\d{2,3}-(?:x|yz)?$", ["1-", "12-", "123-yz", "12-y"], ["12-", "123-yz"]),
    (r"^[^a-z\]]$", ["a", "]", "A", "\n", '"', "\\"], ["A", "\n", '"', "\\"]),
    (r"^\"\\\/\t\x41\u00e9$", ['"\\/\tAé', '"\\/\tAe'], ['"\\/\tAé']),
    (r"^.\s\S\w\W$", ["é z_-", "\n z_-"], ["é z_-"]),
    (r"^a+?b{0}c*$", ["a", "aacc", "abc"], ["a", "aacc"]),
    ("^(a(b|c){2})+$", ["abc", "abcacb", "ab"], ["abc", "abcacb"]),
]


@pytest.mark.parametrize(("pattern", "values", "taken"), PATTERNS)
def test_pattern(pattern: str, values: list[str], taken: list[str]) -> None:
    grammar = schema_to_gbnf({"type": "string", "pattern": pattern})
    assert [value for value in values if matches(grammar, json.dumps(value, ensure_ascii=False))] == taken


def test_pattern_with_a_length() -> None:
    schema = {"type": "string", "pattern": "^[a-z]*$", "minLength": 1, "maxLength": 2}
    assert judged(schema, ['""', '"a"', '"ab"', '"abc"']) == ['"a"', '"ab"']
    assert judged({"pattern": "^(a|bc)$", "maxLength": 2}, ['"bc"']) == ['"bc"']


FORMATS = [
    ("date", ["2024-02-29", "2023-12-31"], ["2023-02-29", "1900-02-29", "2023-13-01", "2023-04-31"]),
    ("time", ["23:59:59Z", "00:00:00.5+02:00"], ["24:00:00Z", "00:00:00"]),
    ("date-time", ["2024-01-02T03:04:05Z"], ["2024-01-02 03:04:05Z", "2024-01-02"]),
    ("duration", ["P1Y2M", "PT5M", "P3W", "P1DT1H"], ["P", "PT", "1D"]),
    ("uuid", ["01234567-89ab-cdef-0123-456789ABCDEF"], ["01234567-89ab-cdef-0123-456789ABCDEG", "0"]),
    ("email", ["a.b+c@example.org"], ["a", "a@b", "@b.c", "a b@c.de"]),
    ("hostname", ["example.org", "a-b"], ["-a", "a..b", "a_b"]),
    ("ipv4", ["127.0.0.1", "255.255.255.255"], ["256.0.0.1", "1.2.3", "01.2.3.4"]),
    ("ipv6", ["2001:db8:0:0:0:0:0:1"], ["2001:db8", "x:1:1:1:1:1:1:1"]),
    ("uri", ["https://example.org/a?b=c#d", "ftp://h"], ["example.org", "http://", "http://a b"]),
]


@pytest.mark.parametrize(("name", "good", "bad"), FORMATS)
def test_format(name: str, good: list[str], bad: list[str]) -> None:
    grammar = schema_to_gbnf({"type": "string", "format": name})
    assert [text for text in good + bad if matches(grammar, json.dumps(text))] == good


# --- what is refused --------------------------------------------------------------------------

REFUSED = [
    ({"type": "text"}, "#", 'type "text" is unknown'),
    ({"type": 1}, "#", "type must be a type name or a list of them"),
    ({"properties": []}, "#", "properties must be an object of schemas"),
    ({"items": 1}, "#", "items must be a schema"),
    ({"anyOf": []}, "#", "anyOf must be a list of schemas"),
    ({"minLength": -1}, "#", "minLength must be a non-negative integer"),
    ({"minimum": "1"}, "#", "minimum must be a number"),
    ({"minimum": True}, "#", "minimum must be a number"),
    ({"minimum": 1e300}, "#", "minimum has too many digits"),
    ({"multipleOf": 0}, "#", "multipleOf must be a positive number"),
    ({"type": "string", "minLength": 1_000_001}, "#", "minLength is supported up to 1000000"),
    ({"$ref": "#/$defs/x"}, "#", '$ref "#/$defs/x" has no target'),
    ({"$ref": 1}, "#", "$ref 1 is not a string"),
    ({"allOf": [{"$ref": "#"}]}, "#/allOf/0/allOf/0", '$ref "#" refers to itself'),
    ({"enum": []}, "#", "no value can satisfy it"),
    ({"enum": ["a"], "minLength": 2}, "#", "no value can satisfy it"),
    ({"type": "integer", "minimum": 2, "maximum": 1}, "#", "no value can satisfy it"),
    ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "#", "no value can satisfy it"),
    ({"type": "integer", "multipleOf": 5, "minimum": 1, "maximum": 4}, "#", "no value can satisfy it"),
    ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "#", "no value can satisfy it"),
    ({"properties": {"a": False}, "required": ["a"]}, "#/properties/a", "no value can satisfy it"),
    ({"propertyNames": {"enum": ["a"]}, "required": ["b"]}, "#", "no value can satisfy it"),
    ({"allOf": [{"type": "string"}, {"type": "null"}]}, "#", "no value can satisfy it"),
    ({"allOf": [{"pattern": "^a$"}, {"pattern": "^b$"}], "type": "string"}, "#", "no value can satisfy it"),
    ({"items": False, "minItems": 1}, "#", "no value can satisfy it"),
]


@pytest.mark.parametrize(
    ("schema", "where", "reason"), REFUSED, ids=[json.dumps(case[0])[:60] for case in REFUSED]
)
def test_unsupported_keywords_are_reported_with_their_place(schema: Any, where: str, reason: str) -> None:
    assert refusal(schema) == f"invalid format: schema at {where}: {reason}"


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)",
        r"\bx",
        r"(a)\1",
        "a**",
        "*a",
        "(a",
        "a)",
        "[a",
        "[]",
        "[z-a]",
        r"\p{L}",
        r"\u12",
        "a{2,1}",
        "a{",
        "^a^b",
        "a$b",
        "(^a)",
        "(a$)",
        "[\ud800]",
        "\\",
    ],
)
def test_patterns_beyond_the_subset_are_left_free_or_refused_if_strict(pattern: str) -> None:
    schema = {"type": "string", "pattern": pattern}
    assert matches(schema_to_gbnf(schema), '"anything"')
    assert refusal(schema, strict=True).startswith("invalid format: schema at #: ")


@pytest.mark.parametrize(
    ("grammar", "follows"),
    [
        ('root ::= "a" [b-d]', True),
        ('root ::= "<" [<!] # <', True),
        ('root ::= [^"\\\\\\x7F\\x00-\\x1F\\n]', True),
        ("root ::= [é\\u00e9]", True),
        ("root ::= <[7]>", False),
        ("root ::= !<think>", False),
        ('# "\nroot ::= <[7]> "x"', False),
        ("root ::= [^é]", False),
        ("root ::= [^\\u00e9]", False),
        ("root ::= [^\\xe9]", False),
    ],
)
def test_grammars_whose_tokens_follow_from_their_beginnings(grammar: str, follows: bool) -> None:
    assert follows_prefixes(grammar) is follows
