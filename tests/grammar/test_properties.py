"""Property tests of supported schemas against llama.cpp's grammar engine and the jsonschema package."""

import codecs
import json
import random
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ollama_tw.errors import OllamaError
from ollama_tw.grammar import limit_grammar, schema_to_gbnf
from tests.grammar.checker import Engine, matches

NAMES = st.sampled_from(["a", "ab", "b", "é", 'q"', "a b", "\\", "n\n", "type"])
TEXTS = st.text(st.characters(codec="utf-8", max_codepoint=0x2FFF), max_size=4)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-1000, 1000), TEXTS)
PATTERNS = {
    "^[a-f]{1,3}$": ["a", "fed"],
    "^x-[0-9]+(,[0-9]+)*$": ["x-1", "x-12,3"],
    r"^(no|yes)?\.$": [".", "yes."],
    '^["/]$': ['"', "/"],
}
FORMATS = {"date": ["2024-02-29"], "ipv4": ["10.0.0.255"], "uuid": ["01234567-89ab-cdef-0123-456789abcdef"]}


Case = tuple[dict[str, Any], st.SearchStrategy[Any]]
"""A schema and a strategy for its instances."""
Cases = st.SearchStrategy[Case]


@st.composite
def strings(draw: st.DrawFn) -> Case:
    low = draw(st.integers(0, 3))
    high = draw(st.integers(low, 6))
    schema = {"type": "string", "minLength": low, "maxLength": high}
    return schema, st.text(st.characters(codec="utf-8"), min_size=low, max_size=high)


@st.composite
def matching_strings(draw: st.DrawFn) -> Case:
    keyword, table = draw(st.sampled_from([("pattern", PATTERNS), ("format", FORMATS)]))
    name = draw(st.sampled_from(sorted(table)))
    return {"type": "string", keyword: name}, st.sampled_from(table[name])


@st.composite
def integers(draw: st.DrawFn) -> Case:
    low = draw(st.integers(-2000, 2000))
    high = draw(st.integers(low, 3000))
    kind = draw(st.sampled_from(["closed", "open", "low", "high", "free"]))
    bounds: dict[str, dict[str, float]] = {
        "closed": {"minimum": low, "maximum": high},
        "open": {"exclusiveMinimum": low - 1, "exclusiveMaximum": high + 0.5},
        "low": {"minimum": low},
        "high": {"maximum": high},
        "free": {},
    }
    return {"type": "integer", **bounds[kind]}, st.integers(low, high)


@st.composite
def numbers(draw: st.DrawFn) -> Case:
    low = draw(st.integers(-2000, 2000))
    high = draw(st.integers(low + 1, 3000))
    schema = {"type": "number", "exclusiveMinimum": low / 100, "maximum": high / 100}
    return schema, st.integers(low + 1, high).map(lambda hundredths: hundredths / 100)


@st.composite
def enumerations(draw: st.DrawFn) -> Case:
    values = draw(st.lists(SCALARS, min_size=1, max_size=4))
    if draw(st.booleans()):
        return {"const": values}, st.just(values)
    return {"enum": values}, st.sampled_from(values)


def plain() -> Cases:
    return st.sampled_from(
        [
            ({"type": "boolean"}, st.booleans()),
            ({"type": "null"}, st.none()),
            ({"type": "string"}, TEXTS),
            ({"type": ["integer", "null"], "minimum": 5}, st.one_of(st.none(), st.integers(5, 99))),
            (
                {},
                st.one_of(
                    SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(TEXTS, SCALARS, max_size=2)
                ),
            ),
            ({"$ref": "#/$defs/tree"}, st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=2))),
        ]
    )


@st.composite
def objects(draw: st.DrawFn, inner: Cases) -> Case:
    members = draw(st.dictionaries(NAMES, inner, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(members)), unique=True)) if members else []
    schema = {"type": "object", "properties": {n: s for n, (s, _) in members.items()}, "required": required}
    others: st.SearchStrategy[dict[str, Any]] = st.just({})
    if draw(st.booleans()):
        other, values = draw(inner)
        schema["additionalProperties"] = other
        others = st.dictionaries(st.sampled_from(["aa", "z", "abc", "éé"]), values, max_size=2)
    own = [
        st.tuples(st.just(name), values, st.just(True) if name in required else st.booleans())
        for name, (_, values) in members.items()
    ]
    chosen = st.tuples(*own).map(lambda drawn: {name: value for name, value, present in drawn if present})
    return schema, st.builds(lambda mine, more: mine | more, chosen, others)


@st.composite
def arrays(draw: st.DrawFn, inner: Cases) -> Case:
    schema, items = draw(inner)
    low = draw(st.integers(0, 2))
    high = draw(st.integers(low, 4))
    return (
        {"type": "array", "items": schema, "minItems": low, "maxItems": high},
        st.lists(items, min_size=low, max_size=high),
    )


@st.composite
def tuples(draw: st.DrawFn, inner: Cases) -> Case:
    members = draw(st.lists(inner, min_size=1, max_size=3))
    low = draw(st.integers(0, len(members)))
    length = draw(st.integers(low, len(members)))
    schema = {"type": "array", "prefixItems": [schema for schema, _ in members], "minItems": low}
    return schema, st.tuples(*[values for _, values in members[:length]]).map(list)


@st.composite
def unions(draw: st.DrawFn, inner: Cases) -> Case:
    branches = draw(st.lists(inner, min_size=1, max_size=3))
    return {"anyOf": [schema for schema, _ in branches]}, st.one_of([values for _, values in branches])


LEAVES = st.one_of(strings(), matching_strings(), integers(), numbers(), enumerations(), plain())
CASES = st.recursive(
    LEAVES, lambda inner: st.one_of(objects(inner), arrays(inner), tuples(inner), unions(inner)), max_leaves=6
)
TREE = {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}
SEEDS = st.integers(0, 2**32)
FORMAT_CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def stays_utf8(text: bytes | bytearray, byte: int) -> bool:
    """Return True if ``byte`` keeps the text UTF-8; llama.cpp accepts overlong and incomplete characters."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(bytes([*text, byte]))
    except UnicodeDecodeError:
        return False
    return True


def random_text(grammar: str, choices: random.Random) -> str | None:
    """Return a random text of the grammar, biased towards short ones; None if it has no end."""
    engine = Engine(grammar)
    assert engine.accepted
    text = bytearray()
    try:
        while len(text) < 1500:
            allowed, may_end = engine.next_bytes()
            allowed = [byte for byte in allowed if stays_utf8(text, byte)]
            if may_end and (not allowed or len(text) > 100 or choices.random() < 0.5):
                return text.decode()
            assert allowed, f"a dead end after {bytes(text)!r}"
            closing = [byte for byte in b'"]}n0' if byte in allowed]
            hurry = closing and choices.random() < (0.2 if len(text) < 100 else 0.9)
            byte = closing[0] if hurry else choices.choice(allowed)
            assert engine.push(byte)
            text.append(byte)
    finally:
        engine.close()
    return None


@pytest.mark.slow
@SETTINGS
@given(CASES, SEEDS)
def test_texts_of_the_grammar_are_valid(case: Case, seed: int) -> None:
    schema = {"allOf": [case[0]], "$defs": TREE}
    grammar = schema_to_gbnf(schema)
    limit_grammar(grammar)
    text = random_text(grammar, random.Random(seed))
    assume(text is not None)
    assert text is not None
    value = json.loads(text)
    jsonschema.Draft202012Validator(schema, format_checker=FORMAT_CHECKER).validate(value)


KINDS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"kind": enumerations().map(lambda case: case[0])}, optional={"n": st.just({})}
)
KEYWORDS = st.sampled_from(["oneOf", "allOf", "anyOf"])
BRANCHES = st.one_of(
    LEAVES.map(lambda case: case[0]),
    objects(LEAVES).map(lambda case: case[0]),
    arrays(LEAVES).map(lambda case: case[0]),
    KINDS.map(lambda members: {"type": "object", "properties": members, "required": ["kind"]}),
    KINDS.map(lambda members: {"properties": members, "additionalProperties": False}),
    st.sets(NAMES, max_size=2).map(lambda names: {"required": sorted(names)}),
)


@SETTINGS
@given(KEYWORDS, st.lists(BRANCHES, min_size=2, max_size=3), BRANCHES, SEEDS)
def test_combinations_are_enforced_or_rejected(
    keyword: str, branches: list[dict[str, Any]], base: dict[str, Any], seed: int
) -> None:
    schema = {"allOf": [base, {keyword: branches}], "$defs": TREE}
    try:
        grammar = schema_to_gbnf(schema, strict=True)
    except OllamaError:
        return
    text = random_text(grammar, random.Random(seed))
    assume(text is not None)
    assert text is not None
    value = json.loads(text)
    jsonschema.Draft202012Validator(schema, format_checker=FORMAT_CHECKER).validate(value)


@SETTINGS
@given(CASES, st.data())
def test_valid_texts_match_the_grammar(case: Case, data: st.DataObject) -> None:
    schema, instances = case
    value = data.draw(instances)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert matches(schema_to_gbnf({**schema, "$defs": TREE}), text), text
