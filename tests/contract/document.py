"""``docs/api/openapi.yaml``, and replies held against it."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker, validators
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.helpers import ROOT

FOLDER = ROOT / "docs" / "api"
DOCUMENT: dict[str, Any] = yaml.safe_load((FOLDER / "openapi.yaml").read_text())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]

METHODS = ("get", "head", "post", "put", "patch", "delete")
_BASE = "urn:openapi"
_REGISTRY: Any = Registry().with_resource(_BASE, DRAFT202012.create_resource(DOCUMENT))


def _content(validator: Any, schema: Any, text: str, _: Any) -> Iterator[Any]:
    """Validate ``contentSchema``, which JSON Schema treats as an annotation only."""
    yield from validator.descend(json.loads(text), schema)


_Validator: Any = validators.extend(Draft202012Validator, {"contentSchema": _content})


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the operations by method in upper case and path."""
    return {
        (method.upper(), path): item[method]
        for path, item in DOCUMENT["paths"].items()
        for method in METHODS
        if method in item
    }


def resolved(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``value``, or the component that its ``$ref`` refers to."""
    found: Any = value
    while "$ref" in found:
        where = found["$ref"].removeprefix("#/").split("/")
        found = DOCUMENT
        for key in where:
            found = found[key]
    return dict(found)


def path_template(path: str) -> str:
    """Return the documented path whose pattern ``path``, without a query, matches."""
    fits: list[str] = [
        template
        for template in DOCUMENT["paths"]
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", ".+", re.escape(template)), path)
    ]
    # The one without parameters, if there is one; else the one with the most text of its own.
    return min(fits, key=lambda template: (template.count("{"), -len(template)))


def faults(method: str, path: str, status: int, content_type: str | None, body: bytes) -> list[str]:
    """Return the deviations of a reply to a request for ``path`` (without a query) from the document."""
    operation = operations()[method, path_template(path)]
    responses = operation["responses"]
    if str(status) not in responses:
        return [f"status {status} is not documented: {body[:300]!r}"]
    content = resolved(responses[str(status)]).get("content", {})
    if not content or method == "HEAD":
        return [f"a body is not documented: {body[:300]!r}"] if body else []
    media = (content_type or "").partition(";")[0]
    if media not in content:
        return [f"content type {content_type} of status {status} is not documented: {body[:300]!r}"]
    schema = content[media].get("schema", {})
    return [fault for value in _values(media, body) for fault in _faults(schema, value)]


def _values(media: str, body: bytes) -> list[Any]:
    """Return the parts of a body that its schema describes: the body, its lines or its events."""
    if media == "application/json":
        return [json.loads(body)]
    if media == "application/x-ndjson":
        return [json.loads(line) for line in body.splitlines()]
    if media == "text/event-stream":
        return list(_events(body.decode()))
    return [body.decode()]


def _events(text: str) -> Iterator[dict[str, str]]:
    assert text.endswith("\n\n"), "the last event is not complete"
    for block in text[:-2].split("\n\n"):
        yield dict(line.split(": ", 1) for line in block.split("\n"))


def _faults(schema: Mapping[str, Any], value: Any) -> list[str]:
    validator = _Validator(_absolute(schema), registry=_REGISTRY, format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message}"[:1000] for error in validator.iter_errors(value)]


def _absolute(value: Any) -> Any:
    """``value`` with references that do not depend on where they stand."""
    if isinstance(value, dict):
        return {key: _BASE + item if key == "$ref" else _absolute(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    return value
