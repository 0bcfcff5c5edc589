"""``docs/api/openapi.yaml`` describes exactly the routes, fields and options of the server."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from msgspec import NODEFAULT, UNSET, inspect
from openapi_spec_validator import validate

from ollama_tw import __version__
from ollama_tw.cloud import recommendations
from ollama_tw.dialects.anthropic import request as anthropic
from ollama_tw.dialects.openai import chat, completions, embeddings, messages, parameters
from ollama_tw.dialects.openai.responses.request import ResponsesRequest
from ollama_tw.dialects.openai.transcriptions import Transcription
from ollama_tw.http.native.tokens import DetokenizeRequest, TokenizeRequest
from ollama_tw.http.server.routing import Routes
from ollama_tw.inference.rerank import RerankRequest
from ollama_tw.interfaces import Device
from ollama_tw.wire import models, native
from ollama_tw.wire.options import OPTIONS, Kind, Options
from tests.contract.document import DOCUMENT, FOLDER, SCHEMAS, operations, resolved
from tests.helpers.application import Application

REQUESTS: dict[str, type[msgspec.Struct]] = {
    "GenerateRequest": native.GenerateRequest,
    "ChatRequest": native.ChatRequest,
    "Message": native.Message,
    "ToolCall": native.ToolCall,
    "ToolCallFunction": native.ToolCallFunction,
    "EmbedRequest": native.EmbedRequest,
    "EmbeddingsRequest": native.EmbeddingsRequest,
    "RerankRequest": RerankRequest,
    "TokenizeRequest": TokenizeRequest,
    "DetokenizeRequest": DetokenizeRequest,
    "ShowRequest": models.ShowRequest,
    "CreateRequest": models.CreateRequest,
    "CopyRequest": models.CopyRequest,
    "DeleteRequest": models.DeleteRequest,
    "TransferRequest": models.TransferRequest,
    "OpenAIChatRequest": chat.ChatCompletionRequest,
    "OpenAIMessage": messages.ChatMessage,
    "OpenAICall": messages.ToolCallParam,
    "OpenAICallFunction": messages.FunctionParam,
    "OpenAICompletionRequest": completions.CompletionRequest,
    "OpenAIEmbeddingRequest": embeddings.EmbeddingRequest,
    "StreamOptions": parameters.StreamOptions,
    "Reasoning": parameters.Reasoning,
    "ResponseFormat": parameters.ResponseFormat,
    "JSONSchemaFormat": parameters.JSONSchema,
    "ResponsesRequest": ResponsesRequest,
    "MessagesRequest": anthropic.MessagesRequest,
    "AnthropicTurn": anthropic.TurnParam,
    "AnthropicTool": anthropic.ToolParam,
    "AnthropicToolChoice": anthropic.ToolChoice,
    "AnthropicThinking": anthropic.ThinkingParam,
    "OutputConfig": anthropic.OutputConfig,
}
"""Types of decoded requests, by the names of the schemas."""

REPLIES: dict[str, type[msgspec.Struct]] = {
    "GenerateRecord": native.GenerateRecord,
    "ChatRecord": native.ChatRecord,
    "ReplyMessage": native.Message,
    "Logprob": native.Logprob,
    "TokenLogprob": native.TokenLogprob,
    "DebugInfo": native.DebugInfo,
    "EmbedRecord": native.EmbedRecord,
    "EmbeddingsRecord": native.EmbeddingsRecord,
    "Recommendation": recommendations.Recommendation,
}
"""Types of encoded replies."""

STRUCTS = {**REQUESTS, **REPLIES}
UNREAD = {"requestBodies/Cloud"}
"""Bodies that go to another server as they are."""

# ------------------------------------------------------------------------------------------ the document


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == __version__


def test_each_operation_has_its_own_name_and_a_known_tag() -> None:
    names = [one["operationId"] for one in operations().values()]
    assert len(set(names)) == len(names)
    tags = {tag for one in operations().values() for tag in one["tags"]}
    assert tags == {tag["name"] for tag in DOCUMENT["tags"]}


def test_every_component_is_used() -> None:
    text = (FOLDER / "openapi.yaml").read_text()
    for kind, components in DOCUMENT["components"].items():
        for name in components:
            if kind == "securitySchemes":
                assert {name: []} in DOCUMENT["security"]
                continue
            assert f'"#/components/{kind}/{name}"' in text


# -------------------------------------------------------------------------------------------- the routes


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Methods and paths of all routes of a server, the paths as OpenAPI writes them."""
    home = tmp_path_factory.mktemp("home")
    with patch.object(Routes, "add", autospec=True, side_effect=Routes.add) as add:
        server = Application(home)
        # Some are added by the first request that no other route answers.
        assert server.request("GET", "/none").status == 404
        server.close()
    routes = [call.args[1:3] for call in add.call_args_list]
    return {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path))
        for methods, path in routes
        for method in methods.split()
    }


def test_the_document_has_the_routes_of_the_server(registered: set[tuple[str, str]]) -> None:
    assert set(operations()) == registered


def sections() -> Iterator[tuple[str, str]]:
    """Methods and paths in the headings of the reference: ``### GET, HEAD /api/tags``."""
    for file in FOLDER.glob("*.md"):
        for heading in re.findall(r"^#+ (.*)", file.read_text(), re.MULTILINE):
            for methods, path in re.findall(r"((?:[A-Z]+, )*[A-Z]+) (/[^ ,]*)", heading):
                for method in methods.split(", "):
                    yield method, path


def test_every_route_has_a_section_in_the_reference(registered: set[tuple[str, str]]) -> None:
    found = list(sections())
    assert len(set(found)) == len(found)
    assert set(found) == registered


# -------------------------------------------------------------------------------------------- the fields


# Fields that are read in other forms as well, which the struct's ``normalised`` converts.
CONVERTED = {
    ("Message", "content"): {"type": "string"},
    ("ToolCallFunction", "arguments"): {"type": "object"},
}


@pytest.mark.parametrize("name", STRUCTS)
def test_a_schema_has_the_fields_of_its_struct(name: str) -> None:
    described = SCHEMAS[name]["properties"]
    info = {field.encode_name: field for field in _info(STRUCTS[name]).fields}
    assert set(described) == set(info)

    def schema(key: str) -> Any:
        return CONVERTED.get((name, key), described[key])

    faults = [fault for key, field in info.items() for fault in _faults(key, field.type, schema(key))]
    assert faults == []


@pytest.mark.parametrize("name", REQUESTS)
def test_a_schema_has_the_defaults_of_its_struct(name: str) -> None:
    schema = SCHEMAS[name]
    assert "additionalProperties" not in schema
    for field in _info(REQUESTS[name]).fields:
        described = resolved(schema["properties"][field.encode_name])
        default = field.default
        if field.default_factory is not NODEFAULT:
            default = field.default_factory()
        if field.encode_name in schema.get("required", ()) or isinstance(default, msgspec.Struct):
            continue
        if default not in (NODEFAULT, UNSET, None, {}):
            assert described.get("default") == default, field.encode_name
        else:
            assert described.get("default") in (None, {}), field.encode_name


@pytest.mark.parametrize("name", REPLIES)
def test_a_schema_requires_what_its_struct_always_writes(name: str) -> None:
    struct = REPLIES[name]
    omits = struct.__struct_config__.omit_defaults
    always = {
        field.encode_name
        for field in msgspec.structs.fields(struct)
        if field.required or not (omits or field.default is UNSET)
    }
    assert set(SCHEMAS[name]["required"]) == always
    assert SCHEMAS[name]["additionalProperties"] is False


def test_every_body_is_the_schema_of_a_struct() -> None:
    for operation in operations().values():
        body = operation.get("requestBody", {})
        if body.get("$ref", "").removeprefix("#/components/") in UNREAD:
            continue
        described = resolved(body).get("content", {}).get("application/json")
        if described is not None:
            schema = described["schema"]
            assert schema.get("allOf", [schema])[0]["$ref"].rpartition("/")[2] in REQUESTS


@pytest.mark.parametrize(("name", "kind"), [("TranscriptionForm", Transcription), ("Device", Device)])
def test_a_schema_has_the_fields_of_its_data_class(name: str, kind: Any) -> None:
    assert set(SCHEMAS[name]["properties"]) == {field.name for field in fields(kind)}


def _info(struct: type) -> inspect.StructType:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return info


_TYPES: dict[type, str] = {
    inspect.BoolType: "boolean",
    inspect.DictType: "object",
    inspect.FloatType: "number",
    inspect.IntType: "integer",
    inspect.ListType: "array",
    inspect.StrType: "string",
    inspect.StructType: "object",
}


def _faults(place: str, info: inspect.Type, schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the deviations of ``schema`` from ``info``, the type that the server reads or writes."""
    match info:
        case inspect.AnyType():
            return
        case inspect.UnionType(types=types):
            (info,) = (one for one in types if not isinstance(one, inspect.NoneType | inspect.CustomType))
        case inspect.BytesType():
            # Base64, in requests an array of bytes as well.
            if not _types(schema) <= {"string", "array"}:
                yield f"{place}: bytes"
            return
    if _types(schema) != {_TYPES[type(info)]}:
        yield f"{place}: {_types(schema)} for {info}"
    if isinstance(info, inspect.ListType):
        yield from _faults(f"{place}[]", info.item_type, _items(schema))
    elif isinstance(info, inspect.StructType):
        name = schema.get("$ref", "").rpartition("/")[2]
        if name in STRUCTS and STRUCTS[name] is not info.cls:
            yield f"{place}: {name} for {info.cls}"


def _items(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    items: Mapping[str, Any] = resolved(schema)["items"]
    return items


def _types(schema: Mapping[str, Any]) -> set[str]:
    """Return the JSON types that ``schema`` allows, without null."""
    schema = resolved(schema)
    kinds = schema.get("type", [])
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    for one in schema.get("anyOf", ()):
        found |= _types(one)
    return found - {"null"}


# ------------------------------------------------------------------------------------------- the options

DESCRIBED: dict[str, Any] = SCHEMAS["Options"]["properties"]
_KINDS = {
    Kind.INTEGER: "integer",
    Kind.FLOAT: "number",
    Kind.BOOLEAN: "boolean",
    Kind.STRING: "string",
    Kind.STRINGS: "array",
}


def test_the_options_are_those_of_the_server() -> None:
    assert list(DESCRIBED) == list(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_the_type_bounds_and_default_of_its_row(name: str) -> None:
    row, described = OPTIONS[name], DESCRIBED[name]
    assert described["type"] == [_KINDS[row.kind], "null"]
    assert (described.get("minimum", -math.inf), described.get("maximum", math.inf)) == row.bounds
    # The other defaults are no values that a request can have.
    assert described.get("default") == (None if row.documented_default else getattr(Options(), name))
    assert described["description"] == row.description
