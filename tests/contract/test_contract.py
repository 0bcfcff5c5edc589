"""Replies to any request are valid by ``docs/api/openapi.yaml``, and no traceback is logged.

The requests are made from the document: valid ones, and ones that depart from it.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import requests
from schemathesis import Case, Config
from schemathesis.openapi import from_dict

from ollama_tw.library.digests import digest_of
from tests.contract.document import DOCUMENT, faults, operations, resolved
from tests.contract.servers import MODELS, cloud_and_server, tracebacks
from tests.helpers.application import Application
from tests.helpers.logs import captured

pytestmark = pytest.mark.slow

EXAMPLES = 10
"""Requests that are drawn at random for each operation, beside those of the bounds of its schemas."""

SIBLINGS = ("/v1/rerank", "/v1/reranking", "/v1/messages/count_tokens", "/api/experimental/web_fetch")
"""Operations that read the bodies of others: for these the random requests are enough."""

SCRATCH = ("scratch", "scratch:2", "nobody/nothing", "")
"""Models that may be made and removed."""

UPLOADED = b"hello"
"""A blob of the server."""

FAILURES = {
    "/api/create": "blob |pull model manifest: |license must be",
    "/api/embeddings": "the input length exceeds the context length",
    "/api/pull": "pull model manifest: ",
    "/api/push": 'unqualified name: |open manifests/|Head |"403"',
    "/api/signout": "there was an error signing out",
    "/api/user/keys/{key}": "there was an error signing out",
}
"""Operations that answer with status 500 where the request is at fault, or another server."""


UNREACHED = {
    *(
        "/api/me",
        "/api/signout",
        "/api/user/keys/{key}",
        "/api/experimental/web_search",
        "/api/pull",
        "/api/push",
        "/api/requests/{id}",
    ),
    *SIBLINGS,
}
"""Operations that need not succeed here: other servers refuse them."""


def fuzzed_document() -> dict[str, Any]:
    """Return the document with schemas of values that pass the first checks of the server."""
    document = deepcopy(DOCUMENT)
    schemas = document["components"]["schemas"]
    model = {"type": "string", "enum": [*MODELS, "missing", "no name", ""]}
    ranker = {"type": "string", "enum": ["ranker", "reranker", "m", "stub"]}
    scratch = {"type": "string", "enum": list(SCRATCH)}
    arguments = {"type": "string", "enum": ["{}", '{"city": "Paris"}', "{"]}
    schemas["ModelName"] = model
    schemas["Base64"]["anyOf"][0] = {"type": "string", "enum": ["aGk=", "=", ""]}
    schemas["ImageUrl"] = {"type": "string", "enum": ["data:image/png;base64,aGk=", "data:;base64,", "data:"]}
    schemas["Format"]["anyOf"][1] = {"enum": [{"type": "object"}, {"enum": [1, 2]}, {"type": "no type"}]}
    schemas["Options"]["properties"]["grammar"]["enum"] = ['root ::= "a"', "root", "", None]
    for name, field, values in (
        ("CreateRequest", "model", scratch),
        ("CreateRequest", "from", model),
        ("CopyRequest", "destination", scratch),
        ("DeleteRequest", "model", scratch),
        ("RerankRequest", "model", ranker),
        ("TranscriptionForm", "model", model),
        ("TranscriptionForm", "response_format", {"type": "string", "enum": ["text", "json"]}),
        ("OpenAICallFunction", "arguments", arguments),
    ):
        schemas[name]["properties"][field] = values
    tool = {"name": "weather", "description": "", "parameters": {"type": "object"}}
    openai_tool = {"type": "function", "function": tool}
    conversation = [{"role": "user", "content": "Hello"}]
    # Requests differ from one another in a field; the others have their defaults, most of which are empty.
    for name, field, default in (
        ("GenerateRequest", "prompt", "Hello"),
        ("ChatRequest", "messages", conversation),
        ("ChatRequest", "tools", [openai_tool]),
        ("OpenAIChatRequest", "messages", conversation),
        ("OpenAIChatRequest", "tools", [openai_tool]),
        ("OpenAIChatRequest", "tool_choice", "auto"),
        ("OpenAICompletionRequest", "prompt", "Hello"),
        ("ResponsesRequest", "input", "Hello"),
        ("ResponsesRequest", "tools", [{"type": "function", **tool}]),
        ("ResponsesRequest", "tool_choice", "auto"),
        ("MessagesRequest", "messages", conversation),
        ("MessagesRequest", "tools", [{"name": "weather", "input_schema": {"type": "object"}}]),
        ("MessagesRequest", "max_tokens", 20),
        ("Options", "num_ctx", 2048),
    ):
        described = schemas[name]["properties"][field]
        schemas[name]["properties"][field] = (
            {"allOf": [described], "default": default}
            if "$ref" in described
            else {**described, "default": default}
        )
    # All operations read the same options: one of them gets all, the others those that matter to replies.
    options = schemas["Options"]["properties"]
    few = {"type": "object", "properties": {key: options[key] for key in ("num_predict", "stop", "grammar")}}
    for name in schemas.keys() - {"GenerateRequest"}:
        if schemas[name].get("properties", {}).get("options", {}).get("$ref"):
            schemas[name]["properties"]["options"] = few
    call = next(one for one in schemas["InputItem"]["anyOf"] if "arguments" in one["properties"])
    call["properties"]["arguments"] = arguments
    document["paths"]["/v1/models/{model}"]["get"]["parameters"][0]["schema"] = model
    digests = [digest_of(UPLOADED), digest_of(b""), "sha256:0"]
    document["paths"]["/api/blobs/{digest}"]["parameters"][0]["schema"] = {"type": "string", "enum": digests}
    files = ["index.html", "style.css", "app.js", "icon.svg", "none"]
    document["paths"]["/ui/{name}"]["parameters"][0]["schema"] = {"type": "string", "enum": files}
    return document


CONFIG = Config.from_dict(
    {
        "base-url": "http://127.0.0.1",
        "generation": {"deterministic": True, "max-examples": EXAMPLES, "database": "none"},
        "operations": [{"include-path": list(SIBLINGS), "phases": {"coverage": {"enabled": False}}}],
    }
)
schema = from_dict(fuzzed_document(), config=CONFIG)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with cloud_and_server(tmp_path_factory.mktemp("contract")) as server:
        server.upload(UPLOADED)
        yield server
        names = {model["name"].removesuffix(":latest") for model in server.get("/api/tags").json["models"]}
    assert set(MODELS) - {"m:cloud"} <= names, "a request has removed a model that others need"


@pytest.fixture(scope="module")
def reached() -> Iterator[dict[tuple[str, str], set[str]]]:
    """Content types of the replies with status 200 by method and path. All that are documented must come."""
    reached: dict[tuple[str, str], set[str]] = {}
    yield reached
    for (method, path), kinds in reached.items():
        if path not in UNREACHED:
            documented = resolved(operations()[method, path]["responses"]["200"]).get("content", {})
            assert kinds, path
            assert set(documented) <= kinds, path


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@schema.parametrize()
def test_the_server_keeps_to_the_document(
    case: Case[Any],
    server: Application,
    session: requests.Session,
    reached: dict[tuple[str, str], set[str]],
) -> None:
    if isinstance(case.body, dict) and isinstance(case.body.get("stream"), bool):
        case.body["stream"] = len(repr(case.body)) % 2 == 0
    if "response" in case.path_parameters and len(case.path_parameters["response"]) % 2 == 0:
        kept = server.post("/v1/responses", {"model": "m", "input": "Hello"}).json
        case.path_parameters["response"] = kept["id"]
    with captured() as events:
        response = case.call(f"http://127.0.0.1:{server.port}", session, allow_redirects=False)
    assert tracebacks(events) == []
    status, body = response.status_code, response.content
    if (case.method, case.path) not in operations():
        documented = {method for method, path in operations() if path == case.path}
        assert (status, set(response.headers["allow"][0].split(", "))) == (405, documented)
        return
    if status == 500:
        assert re.search(FAILURES.get(case.path, "$^"), body.decode()), body
    kind = response.headers.get("content-type", [None])[0]
    kinds = reached.setdefault((case.method, case.path), set())
    if status == 200:
        kinds.add((kind or "").partition(";")[0])
    assert faults(case.method, case.path, status, kind, body) == []
