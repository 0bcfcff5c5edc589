"""Conversion of JSON Schema to GBNF."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ollama_tw.grammar.ambiguity import is_ambiguous
from ollama_tw.grammar.check import check_rules
from ollama_tw.grammar.containers import Items, Member, array_of, object_of
from ollama_tw.grammar.document import (
    Document,
    Flat,
    Unsatisfiable,
    is_of_type,
    refuse,
    unsatisfiable,
)
from ollama_tw.grammar.exclusion import generated_types, overlapping
from ollama_tw.grammar.gbnf import MAX_COUNT, Literal, Node, Ref, RuleBook, choice
from ollama_tw.grammar.pattern import Expression, PatternError, parse_pattern
from ollama_tw.grammar.ranges import Bounds, integer_between, number_between
from ollama_tw.grammar.strings import FORMATS, format_expression, string_of, with_length
from ollama_tw.grammar.tokens import Tokens, json_text

MAX_SCHEMA_DEPTH = 64

_MAX_BOUND = Decimal(10) ** 36
_MAX_BOUND_DECIMALS = 20

_INTEGER_FORMATS = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
# Formats that affect how a value is shown or stored, not which values are valid.
_FREE_FORMATS = {"float", "double", "password"}


def schema_to_gbnf(schema: Mapping[str, Any]) -> str:
    """Return the grammar, with the rule ``root``, of the JSON texts that satisfy ``schema``.

    Properties are in the schema's order. Objects have no members, and tuples no items, beyond the
    declared ones unless ``additionalProperties`` or ``items`` allows them. Annotations and unknown
    keywords are ignored. Raises :class:`OllamaError` 400, with the JSON pointer of the schema, for a
    keyword that cannot be enforced, for an unsatisfiable schema, and above the limits.
    """
    book = RuleBook()
    root = book.fresh("root")
    book.define(root, schema_node(schema, Tokens(book)))
    check_rules(book.rules)
    return book.text()


def schema_node(schema: Mapping[str, Any], tokens: Tokens, part: object = None) -> Node:
    """Return the grammar of the JSON texts that satisfy ``schema``, or the schema ``part`` in it.

    Its rules are added to the book of ``tokens``. Raises :class:`OllamaError` like :func:`schema_to_gbnf`,
    but does not check the size of the grammar.
    """
    return _Converter(schema, tokens).node(schema if part is None else part)


def any_object_gbnf() -> str:
    """Return the grammar of all JSON objects."""
    book = RuleBook()
    name = book.fresh("root")
    book.define(name, Tokens(book).any_object())
    return book.text()


class _Converter:
    def __init__(self, schema: Mapping[str, Any], tokens: Tokens) -> None:
        self._document = Document(schema)
        self._book = tokens.book
        self._tokens = tokens
        self._references: dict[str, Ref] = {}
        self._waiting: list[str] = []

    def node(self, schema: object) -> Node:
        root = self._node(schema, "#", 0)
        while self._waiting:
            reference = self._waiting.pop()
            target = self._document.resolve(reference, reference)
            self._book.define(self._references[reference].name, self._node(target, reference, 0))
        return root

    def _node(self, schema: object, where: str, depth: int) -> Node:
        if depth > MAX_SCHEMA_DEPTH:
            raise refuse(where, f"schemas are nested deeper than {MAX_SCHEMA_DEPTH} levels")
        if isinstance(schema, Mapping) and "$ref" in schema:
            rest = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
            if not self._document.flatten(rest, where):
                return self._reference(schema["$ref"], where)
        flat = self._document.flatten(schema, where)
        for keyword in ("oneOf", "anyOf"):
            if keyword in flat:
                return self._branches(flat, keyword, where, depth)
        if "enum" in flat:
            return self._enumeration(flat, where)
        if "format" in flat:
            self._check_format(flat["format"], where)
        if not flat:
            return self._tokens.value()
        return self._of_types(flat, where, depth)

    def _reference(self, reference: object, where: str) -> Ref:
        """Return a rule for the target, which is defined later since references may be cyclic."""
        self._document.resolve(reference, where)
        key = str(reference)
        if key not in self._references:
            self._references[key] = Ref(self._book.fresh("ref"))
            self._waiting.append(key)
        return self._references[key]

    def _branches(self, flat: Flat, keyword: str, where: str, depth: int) -> Node:
        base = {name: value for name, value in flat.items() if name != keyword}
        branches = flat[keyword]
        if keyword == "oneOf":
            self._check_exclusive(base, branches, where)
        nodes: list[Node] = []
        failure = unsatisfiable(where)
        for number, branch in enumerate(branches):
            schema = {"allOf": [base, branch]} if base else branch
            try:
                nodes.append(self._node(schema, f"{where}/{keyword}/{number}", depth + 1))
            except Unsatisfiable as error:
                failure = error
        if not nodes:
            raise failure
        return choice(nodes)

    def _check_exclusive(self, base: Flat, branches: list[object], where: str) -> None:
        found = overlapping(self._document, base, branches, where)
        if found is not None:
            raise refuse(
                where,
                f"oneOf cannot be enforced: {found[0]} and {found[1]} may both be valid; use anyOf",
            )

    def _enumeration(self, flat: Flat, where: str) -> Node:
        others = sorted(flat.keys() - {"enum", "type"})
        if others:
            raise refuse(where, f"{others[0]} is not supported together with enum or const")
        types = flat.get("type")
        values = [value for value in flat["enum"] if types is None or is_of_type(value, types)]
        if not values:
            raise unsatisfiable(where)
        return self._book.rule(choice(self._tokens.constant(value) for value in values), "enum")

    def _check_format(self, name: str, where: str) -> None:
        if name not in FORMATS and name not in _INTEGER_FORMATS and name not in _FREE_FORMATS:
            raise refuse(where, f"format {name[:100]} is not supported")

    def _of_types(self, flat: Flat, where: str, depth: int) -> Node:
        nodes: list[Node] = []
        failure = unsatisfiable(where)
        for name in generated_types(flat):
            try:
                nodes.append(self._of_type(name, flat, where, depth))
            except Unsatisfiable as error:
                failure = error
        if not nodes:
            raise failure
        return choice(nodes)

    def _of_type(self, name: str, flat: Flat, where: str, depth: int) -> Node:
        match name:
            case "object":
                return self._object(flat, where, depth)
            case "array":
                return self._array(flat, where, depth)
            case "string":
                return self._string(flat, where)
            case "integer" | "number":
                return self._number(flat, where, whole=name == "integer")
            case "boolean":
                return self._tokens.boolean()
            case _:
                return Literal("null")

    def _object(self, flat: Flat, where: str, depth: int) -> Node:
        properties: Mapping[str, object] = flat.get("properties", {})
        required = list(dict.fromkeys(flat.get("required", ())))
        others = flat.get("additionalProperties")
        if (
            not properties
            and not required
            and (others is True or (others is None and "properties" not in flat))
        ):
            return self._tokens.any_object()
        schemas = {**properties}
        for name in required:
            schemas.setdefault(name, True if others is None else others)
        members = []
        for name, schema in schemas.items():
            try:
                value = self._node(schema, f"{where}/properties/{_pointer(name)}", depth + 1)
            except Unsatisfiable:
                if name in required:
                    raise
                continue
            members.append(Member(name, value, name in required))
        additional = self._additional(others, schemas, where, depth)
        return object_of(members, additional, self._tokens)

    def _additional(
        self, schema: object, declared: Mapping[str, object], where: str, depth: int
    ) -> Node | None:
        if schema is None or schema is False:
            return None
        self._document.spend(sum(map(len, declared)))
        try:
            return self._node(schema, f"{where}/additionalProperties", depth + 1)
        except Unsatisfiable:
            return None

    def _array(self, flat: Flat, where: str, depth: int) -> Node:
        minimum, maximum = self._counts(flat, "Items", where)
        prefix: list[Node] = []
        for number, schema in enumerate(flat.get("prefixItems", ())):
            try:
                prefix.append(self._node(schema, f"{where}/prefixItems/{number}", depth + 1))
            except Unsatisfiable:
                maximum = number if maximum is None else min(maximum, number)
                break
        rest: Node | None = None
        if "items" not in flat and prefix:
            # Items after a tuple are like additional members: only as many as are required.
            maximum = (
                max(minimum, len(prefix)) if maximum is None else min(maximum, max(minimum, len(prefix)))
            )
        if "items" in flat or not prefix or minimum > len(prefix):
            try:
                rest = self._node(flat.get("items", True), f"{where}/items", depth + 1)
            except Unsatisfiable:
                rest = None
        node = array_of(Items(tuple(prefix), rest, minimum, maximum), self._tokens)
        if node is None:
            raise unsatisfiable(where)
        return node

    def _string(self, flat: Flat, where: str) -> Node:
        minimum, maximum = self._counts(flat, "Length", where)
        name = flat.get("format")
        if name not in FORMATS and "pattern" not in flat:
            return self._tokens.string(minimum, maximum)
        if name in FORMATS and "pattern" in flat:
            raise refuse(where, "pattern is not supported together with format")
        keyword = "format" if name in FORMATS else "pattern"
        self._document.spend(len(flat[keyword]))
        try:
            expression: Expression = (
                format_expression(flat["format"]) if keyword == "format" else parse_pattern(flat["pattern"])
            )
            node = string_of(with_length(expression, minimum, maximum), self._tokens)
        except PatternError as error:
            raise refuse(where, f"{keyword} {json_text(flat[keyword][:100])}: {error}") from None
        if is_ambiguous(node, self._book.rules):
            raise refuse(where, f"{keyword} {json_text(flat[keyword][:100])} is too ambiguous")
        return node

    def _counts(self, flat: Flat, unit: str, where: str) -> tuple[int, int | None]:
        minimum = int(flat.get(f"min{unit}", 0))
        maximum = flat.get(f"max{unit}")
        if max(minimum, maximum or 0) > MAX_COUNT:
            raise refuse(where, f"min{unit} and max{unit} are supported up to {MAX_COUNT}")
        if maximum is not None and maximum < minimum:
            raise unsatisfiable(where)
        return minimum, None if maximum is None else int(maximum)

    def _number(self, flat: Flat, where: str, *, whole: bool) -> Node:
        bounds = self._bounds(flat, where)
        if whole and flat.get("format") in _INTEGER_FORMATS:
            low, high = (Decimal(end) for end in _INTEGER_FORMATS[flat["format"]])
            if bounds.low is None or bounds.low < low:
                bounds = Bounds(low, bounds.high, False, bounds.high_open)
            if bounds.high is None or bounds.high > high:
                bounds = Bounds(bounds.low, high, bounds.low_open, False)
        if bounds == Bounds():
            return self._tokens.integer() if whole else self._tokens.number()
        node = integer_between(bounds) if whole else number_between(bounds)
        if node is None:
            raise unsatisfiable(where)
        return self._book.rule(node, "integer" if whole else "number")

    def _bounds(self, flat: Flat, where: str) -> Bounds:
        low, low_open = self._bound(flat, "minimum", "exclusiveMinimum", where)
        high, high_open = self._bound(flat, "maximum", "exclusiveMaximum", where)
        return Bounds(low, high, low_open, high_open)

    def _bound(self, flat: Flat, closed: str, opened: str, where: str) -> tuple[Decimal | None, bool]:
        """Return the tighter of two bounds, and True if it is exclusive."""
        found = []
        for keyword in (closed, opened):
            if keyword in flat:
                bound = _decimal(flat[keyword])
                if bound is None:
                    raise refuse(where, f"{keyword} has too many digits")
                found.append((bound, keyword == opened))
        if not found:
            return None, False
        tighter = max if closed == "minimum" else min
        bound = tighter(value for value, _ in found)
        return bound, (bound, True) in found


def _decimal(value: int | float) -> Decimal | None:
    if abs(value) > _MAX_BOUND:
        return None
    number = Decimal(str(value))
    exponent = number.as_tuple().exponent
    return number if isinstance(exponent, int) and exponent >= -_MAX_BOUND_DECIMALS else None


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
