"""Check that values generated for one branch of oneOf are not valid for another one."""

from collections.abc import Sequence

from ollama_tw.grammar.document import (
    TYPES,
    Document,
    Flat,
    Unsatisfiable,
    canonical,
    is_of_type,
    type_of,
)

_MAX_DEPTH = 6

# The type that each keyword implies in a schema without a type.
_HINTS = {
    "properties": ("object",),
    "required": ("object",),
    "additionalProperties": ("object",),
    "patternProperties": ("object",),
    "propertyNames": ("object",),
    "minProperties": ("object",),
    "maxProperties": ("object",),
    "items": ("array",),
    "prefixItems": ("array",),
    "minItems": ("array",),
    "maxItems": ("array",),
    "pattern": ("string",),
    "format": ("string",),
    "minLength": ("string",),
    "maxLength": ("string",),
    "minimum": ("number",),
    "maximum": ("number",),
    "exclusiveMinimum": ("number",),
    "exclusiveMaximum": ("number",),
    "multipleOf": ("number",),
}


def generated_types(flat: Flat) -> tuple[str, ...]:
    """Return the JSON types that are generated for a schema.

    Keywords for objects in a schema without ``type`` imply an object, although a number would satisfy
    it too.
    """
    if "type" in flat:
        types = flat["type"]
    else:
        types = tuple({name: None for keyword in flat for name in _HINTS.get(keyword, ())}) or TYPES
    return tuple(name for name in dict.fromkeys(types) if name != "integer" or "number" not in types)


def overlapping(
    document: Document, base: Flat, branches: Sequence[object], where: str
) -> tuple[int, int] | None:
    """Return the numbers of two branches that may both be valid; None if there are certainly none.

    That is, values generated for one, together with ``base``, may be valid for the other.
    """
    generated = [_alternatives(document, {"allOf": [base, branch]}, where) for branch in branches]
    valid = [_alternatives(document, branch, where) for branch in branches]
    for i, ones in enumerate(generated):
        for j, others in enumerate(valid):
            if i != j and not _all_exclude(document, ones, others, where, 0):
                return min(i, j), max(i, j)
    return None


def _all_exclude(document: Document, ones: list[Flat], others: list[Flat], where: str, depth: int) -> bool:
    document.spend(len(ones) * len(others))
    return all(_excludes(document, one, two, where, depth) for one in ones for two in others)


def _values_exclude(document: Document, one: object, two: object, where: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        return False
    ones, others = _alternatives(document, one, where), _alternatives(document, two, where)
    return _all_exclude(document, ones, others, where, depth)


def _alternatives(document: Document, schema: object, where: str, depth: int = 0) -> list[Flat]:
    """Return the alternatives of a schema, without anyOf and oneOf.

    Where those are nested too deep, the schema for any value replaces them.
    """
    try:
        flat = document.flatten(schema, where)
    except Unsatisfiable:
        return []
    keyword = next((name for name in ("anyOf", "oneOf") if name in flat), None)
    if keyword is None:
        return [flat]
    if depth > _MAX_DEPTH:
        return [{}]
    base = {name: value for name, value in flat.items() if name != keyword}
    return [
        alternative
        for branch in flat[keyword]
        for alternative in _alternatives(document, {"allOf": [base, branch]}, where, depth + 1)
    ]


def _excludes(document: Document, one: Flat, two: Flat, where: str, depth: int) -> bool:
    if "enum" in one:
        values = [value for value in one["enum"] if _of_own_type(value, one) and _of_own_type(value, two)]
        valid = None if "enum" not in two else {canonical(value) for value in two["enum"]}
        return not any(valid is None or canonical(value) in valid for value in values)
    valid_types = two.get("type", TYPES)
    if "enum" in two:
        valid_types = tuple({type_of(value) for value in two["enum"]} & set(valid_types))
    generated = generated_types(one)
    common = {name for name in generated if name in valid_types}
    if "number" in generated and "integer" in valid_types:
        common.add("integer")
    if "integer" in generated and "number" in valid_types:
        common.add("integer")
    if common == {"object"}:
        return _excludes_object(document, one, two, where, depth)
    return not common


def _of_own_type(value: object, flat: Flat) -> bool:
    return "type" not in flat or is_of_type(value, flat["type"])


def _excludes_object(document: Document, one: Flat, two: Flat, where: str, depth: int) -> bool:
    """Return True if the objects of ``one`` lack, or have another value for, a member of ``two``."""
    own, other = one.get("properties", {}), two.get("properties", {})
    always, demanded = set(one.get("required", ())), set(two.get("required", ()))
    free_form = "patternProperties" in one or (
        "properties" not in one and one.get("additionalProperties", True) is True
    )
    if "additionalProperties" not in one and not free_form and demanded - own.keys() - always:
        return True
    if one.get("additionalProperties") is False and demanded - own.keys():
        return True
    if two.get("additionalProperties") is False and always - other.keys():
        return True
    return any(
        _values_exclude(document, own[name], other[name], where, depth + 1)
        for name in own
        if name in other and name in always | demanded
    )
