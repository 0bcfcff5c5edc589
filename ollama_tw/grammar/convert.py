"""Conversion of JSON Schema to GBNF."""

import logging
from collections.abc import Mapping
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.check import check_rules
from ollama_tw.grammar.containers import Items, Member, array_of, object_of, record_of
from ollama_tw.grammar.document import (
    Document,
    Flat,
    Unsatisfiable,
    refuse,
    unsatisfiable,
)
from ollama_tw.grammar.exclusion import generated_types, overlapping
from ollama_tw.grammar.gbnf import EMPTY, Literal, Node, Ref, RuleBook, choice
from ollama_tw.grammar.scalars import Scalars
from ollama_tw.grammar.tokens import Tokens, json_text
from ollama_tw.grammar.validity import may_be_valid
from ollama_tw.wire.native import Note, ignore

MAX_SCHEMA_DEPTH = 64

_TEXT_OF_WORK = 200
"""Characters of a merged schema that count as one subschema in the limit of work."""

_log = logging.getLogger(__name__)


def schema_to_gbnf(schema: Mapping[str, Any], *, strict: bool = False, note: Note = ignore) -> str:
    """Return the grammar, with the rule ``root``, of the JSON texts that satisfy ``schema``.

    Properties are in the schema's order. Objects have no members, and tuples no items, beyond the
    declared ones unless ``additionalProperties`` or ``items`` allows them. Annotations, unknown keywords
    and unknown formats are ignored. What cannot be enforced is left free, logged and passed to ``note``,
    or refused with ``strict``. Raises :class:`OllamaError` 400, with the JSON pointer of the schema, for an
    invalid or unsatisfiable schema, and above the limits.
    """
    book = RuleBook()
    root = book.fresh("root")
    document = Document(schema, strict=strict)
    book.define(root, part_node(document, Tokens(book), schema))
    for text in document.unenforced:
        note(text)
    check_rules(book.rules)
    return book.text()


def part_node(document: Document, tokens: Tokens, part: object) -> Node:
    """Return the grammar of the JSON texts that satisfy the schema ``part`` of a document.

    Its rules are added to the book of ``tokens``. Raises :class:`OllamaError` like :func:`schema_to_gbnf`,
    but does not check the size of the grammar.
    """
    known = len(document.unenforced)
    node = _Converter(document, tokens).node(part)
    if found := list(document.unenforced)[known:]:
        _log.info("the output may violate its schema: %s", "; ".join(found))
    return node


def any_object_gbnf() -> str:
    """Return the grammar of all JSON objects."""
    book = RuleBook()
    name = book.fresh("root")
    book.define(name, Tokens(book).any_object())
    return book.text()


class _Converter:
    def __init__(self, document: Document, tokens: Tokens) -> None:
        self._document = document
        self._book = tokens.book
        self._tokens = tokens
        self._scalars = Scalars(document, tokens)
        self._references: dict[str, Ref] = {}
        self._merges: dict[str, Ref] = {}
        """Rules of merged schemas, by their text."""
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
        if isinstance(schema, Mapping) and (schema.get("$ref") or schema.get("allOf")):
            return self._merged(flat, where, depth)
        return self._of_flat(flat, where, depth)

    def _merged(self, flat: Flat, where: str, depth: int) -> Node:
        """Return a rule for a schema that was merged of several: a reference in it may lead back to it."""
        text = json_text(flat)
        self._document.spend(len(text) // _TEXT_OF_WORK)
        if text not in self._merges:
            rule = self._merges[text] = Ref(self._book.fresh("merged"))
            try:
                self._book.define(rule.name, self._of_flat(flat, where, depth))
            except OllamaError:
                # Also what no value can satisfy, such as a branch of anyOf.
                del self._merges[text]
                raise
        return self._merges[text]

    def _of_flat(self, flat: Flat, where: str, depth: int) -> Node:
        for keyword in ("oneOf", "anyOf"):
            if keyword in flat:
                return self._branches(flat, keyword, where, depth)
        if "enum" in flat:
            return self._enumeration(flat, where)
        if not flat:
            return self._tokens.value()
        return self._of_types(flat, where, depth)

    def _reference(self, reference: object, where: str) -> Node:
        """Return a rule for the target, which is defined later since references may be cyclic."""
        target = self._document.resolve(reference, where)
        key = str(reference)
        if not key.startswith("#"):
            return self._node(target, where, 0)
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
            self._document.leave_free(
                where,
                f"oneOf cannot be enforced: {found[0]} and {found[1]} may both be valid; use anyOf",
            )

    def _enumeration(self, flat: Flat, where: str) -> Node:
        values = [value for value in flat["enum"] if may_be_valid(self._document, flat, value, where)]
        if not values:
            raise unsatisfiable(where)
        return self._book.rule(choice(self._tokens.constant(value) for value in values), "enum")

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
                return self._scalars.string(flat, where)
            case "integer" | "number":
                return self._scalars.number(flat, where, whole=name == "integer")
            case "boolean":
                return self._tokens.boolean()
            case _:
                return Literal("null")

    def _object(self, flat: Flat, where: str, depth: int) -> Node:
        flat, keys = self._named(flat, where)
        properties: Mapping[str, object] = flat.get("properties", {})
        required = list(dict.fromkeys(flat.get("required", ())))
        others = flat.get("additionalProperties")
        if not properties and not required:
            if keys is not None:
                return self._record(flat, keys, where, depth)
            if others is True or (others is None and "properties" not in flat):
                if not {"minProperties", "maxProperties"} & flat.keys():
                    return self._tokens.any_object()
                return self._record(flat, {}, where, depth)
            if others not in (None, False) and {"minProperties", "maxProperties"} & flat.keys():
                return self._record(flat, {}, where, depth)
        elif keys is not None:
            self._document.leave_free(where, "the names of additional members are not enforced")
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
        minimum, maximum = self._scalars.counts(flat, "Properties", where)
        if minimum > max(len(required), 1) or (
            maximum is not None and (additional or maximum < len(members))
        ):
            self._document.leave_free(where, "minProperties and maxProperties are not enforced")
        if minimum and not members and additional is None:
            raise unsatisfiable(where)
        return object_of(members, additional, self._tokens, empty=minimum == 0)

    def _named(self, flat: Flat, where: str) -> tuple[Flat, Flat | None]:
        """Resolve ``propertyNames`` and ``patternProperties``.

        Names that are listed become properties. Returns the schema and, for other names, a schema of
        strings; the latter is None if all names are allowed.
        """
        flat = dict(flat)
        names = flat.pop("propertyNames", True)
        patterns: dict[str, object] = flat.pop("patternProperties", {})
        constraint = self._document.flatten(names, f"{where}/propertyNames")
        if "enum" in constraint:
            allowed = [name for name in constraint["enum"] if isinstance(name, str)]
            if not {*flat.get("required", ())} <= {*allowed}:
                raise unsatisfiable(where)
            declared, others = flat.get("properties", {}), flat.get("additionalProperties", True)
            flat["properties"] = {name: declared.get(name, others) for name in allowed}
            flat["additionalProperties"] = False
            return flat, None
        keys: Flat | None = {
            keyword: constraint[keyword]
            for keyword in ("pattern", "format", "minLength", "maxLength")
            if keyword in constraint
        } or None
        if patterns:
            (pattern, value), *more = patterns.items()
            if more or keys is not None:
                self._document.leave_free(where, "several constraints of the names are not enforced")
            if not more and keys is None and not flat.get("properties"):
                flat["additionalProperties"] = value
                keys = {"pattern": (pattern,)}
            elif keys is None:
                self._document.leave_free(where, "keyword patternProperties is not supported")
        return flat, keys

    def _record(self, flat: Flat, keys: Flat, where: str, depth: int) -> Node:
        """Return an object without declared members."""
        minimum, maximum = self._scalars.counts(flat, "Properties", where)
        try:
            value = self._node(
                flat.get("additionalProperties", True), f"{where}/additionalProperties", depth + 1
            )
            key = self._scalars.string(keys, f"{where}/propertyNames")
        except Unsatisfiable:
            if minimum:
                raise
            value = key = EMPTY
            maximum = 0
        return record_of(key, value, minimum, maximum, self._tokens)

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
        minimum, maximum = self._scalars.counts(flat, "Items", where)
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


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
