"""Check of the values of an enumeration against the other keywords of their schema."""

from collections.abc import Mapping

from ollama_tw.grammar.automaton import TooLarge, matches
from ollama_tw.grammar.document import Document, Flat, Unsatisfiable, canonical, is_of_type
from ollama_tw.grammar.pattern import PatternError, parse_pattern
from ollama_tw.grammar.strings import FORMATS, format_expression

_MAX_FORMATTED = 300


def may_be_valid(document: Document, flat: Flat, value: object, where: str) -> bool:
    """Return False for a value that a keyword of ``flat`` excludes, other than ``enum`` and ``anyOf``.

    Keywords that grammars do not enforce are not checked. Formats, which are narrower here than in their
    RFCs, exclude no value; one that seems to lack its format is noted.
    """
    document.spend(1)
    if "type" in flat and not is_of_type(value, flat["type"]):
        return False
    match value:
        case bool():
            return True
        case str():
            _check_formats(document, flat, value, where)
            return _in_length(flat, "Length", value) and _matches(document, flat, value)
        case int() | float():
            return _in_range(flat, value)
        case list():
            return _in_length(flat, "Items", value) and _has_items(document, flat, value, where)
        case Mapping():
            return _in_length(flat, "Properties", value) and _has_members(document, flat, value, where)
    return True


def _valid(document: Document, schema: object, value: object, where: str) -> bool:
    try:
        flat = document.flatten(schema, where)
    except Unsatisfiable:
        return False
    if "enum" in flat and canonical(value) not in {canonical(one) for one in flat["enum"]}:
        return False
    for keyword in ("anyOf", "oneOf"):
        branches = flat.get(keyword)
        if branches and not any(_valid(document, branch, value, where) for branch in branches):
            return False
    return may_be_valid(document, flat, value, where)


def _in_length(flat: Flat, unit: str, value: str | list[object] | Mapping[str, object]) -> bool:
    length = len(value)
    return bool(flat.get(f"min{unit}", 0) <= length <= flat.get(f"max{unit}", length))


def _in_range(flat: Flat, value: int | float) -> bool:
    above, below = flat.get("exclusiveMinimum"), flat.get("exclusiveMaximum")
    return bool(
        flat.get("minimum", value) <= value <= flat.get("maximum", value)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def _matches(document: Document, flat: Flat, value: str) -> bool:
    for pattern in flat.get("pattern", ()):
        document.spend(len(value) + len(pattern))
        try:
            if not matches(parse_pattern(pattern), value):
                return False
        except (PatternError, TooLarge):
            continue
    return True


def _check_formats(document: Document, flat: Flat, value: str, where: str) -> None:
    for name in flat.get("format", ()):
        if name not in FORMATS:
            continue
        try:
            fits = matches(format_expression(name), value[:_MAX_FORMATTED])
        except TooLarge:
            continue
        if not fits:
            document.leave_free(where, f"the values of the enumeration may not have the format {name}")


def _has_items(document: Document, flat: Flat, value: list[object], where: str) -> bool:
    prefix = flat.get("prefixItems", ())
    schemas = [*prefix[: len(value)], *[flat.get("items", True)] * (len(value) - len(prefix))]
    return all(_valid(document, schema, item, where) for schema, item in zip(schemas, value, strict=True))


def _has_members(document: Document, flat: Flat, value: Mapping[str, object], where: str) -> bool:
    if not {*flat.get("required", ())} <= value.keys():
        return False
    declared, others = flat.get("properties", {}), flat.get("additionalProperties", True)
    if "patternProperties" in flat:
        others = True
    return all(_valid(document, declared.get(name, others), member, where) for name, member in value.items())
