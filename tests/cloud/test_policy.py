"""Permitted servers, signatures, cloud references."""

import pytest

from ollama_tw.cloud.policy import CloudPolicy, Operation, RemoteServer, cloud_name
from ollama_tw.errors import OllamaError

CLOUD = "https://ollama.com:443"
POLICY = CloudPolicy(False, CLOUD, ("ollama.com", "gpu.example", "10.0.0.2", "::1"))


@pytest.mark.parametrize(
    ("remote_host", "base", "signed"),
    [
        ("https://ollama.com:443", "https://ollama.com:443", True),
        ("https://ollama.com", "https://ollama.com:443", True),
        ("https://OLLAMA.com:443/", "https://ollama.com:443", True),
        # Over plain HTTP, the signature could be intercepted.
        ("http://ollama.com:80", "http://ollama.com", False),
        ("https://ollama.com:8443", "https://ollama.com:8443", True),
        ("http://gpu.example:11434", "http://gpu.example:11434", False),
        ("http://gpu.example:11434/a/b", "http://gpu.example:11434/a/b", False),
        ("https://10.0.0.2:1", "https://10.0.0.2:1", False),
        ("http://[::1]:11434", "http://[::1]:11434", False),
    ],
)
def test_permitted_servers(remote_host: str, base: str, signed: bool) -> None:
    assert POLICY.server_at(remote_host) == RemoteServer(base, signed)


@pytest.mark.parametrize(
    "remote_host",
    [
        "http://elsewhere.example:11434",
        "http://169.254.169.254",
        "http://localhost:11434",
        "http://ollama.com@127.0.0.1:11434",
        "http://127.0.0.1:11434#ollama.com",
        "http://evil-ollama.com",
        "http://ollama.com.evil.example",
        "http://sub.ollama.com",
        "http://10.0.0.20",
        "file:///etc/passwd",
        "gopher://ollama.com",
        "ollama.com",
        "http://",
        "",
        "http://ollama.com\\@127.0.0.1",
        "http://ollama.com:port",
        "http://ollama.com\r\nHost: x",
    ],
)
def test_servers_that_are_not_permitted(remote_host: str) -> None:
    with pytest.raises(OllamaError) as caught:
        POLICY.server_at(remote_host)
    assert (caught.value.status, caught.value.message) == (400, "this server cannot run this remote model")


def test_a_replaced_cloud() -> None:
    policy = CloudPolicy(False, "http://127.0.0.1:8080", ("ollama.com", "127.0.0.1"))
    assert policy.cloud == RemoteServer("http://127.0.0.1:8080", True)
    assert policy.server_at("https://ollama.com:443") == RemoteServer("http://127.0.0.1:8080", True)
    assert policy.server_at("http://127.0.0.1:8080/x") == RemoteServer("http://127.0.0.1:8080/x", True)
    assert policy.server_at("http://127.0.0.1:8081") == RemoteServer("http://127.0.0.1:8081", False)


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (Operation.MODEL, "ollama cloud is disabled: remote model is unavailable"),
        (Operation.DETAILS, "ollama cloud is disabled: remote model details are unavailable"),
        (Operation.WEB_SEARCH, "ollama cloud is disabled: web search is unavailable"),
        (Operation.WEB_FETCH, "ollama cloud is disabled: web fetch is unavailable"),
    ],
)
def test_disabled(operation: Operation, text: str) -> None:
    POLICY.require(operation)
    with pytest.raises(OllamaError) as caught:
        CloudPolicy(True, CLOUD, ()).require(operation)
    assert (caught.value.status, caught.value.message) == (403, text)


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("m:cloud", "m"),
        (" m:Cloud ", "m"),
        ("gpt-oss:20b-cloud", "gpt-oss:20b"),
        ("ada/m:1b:cloud", "ada/m:1b"),
        ("m", None),
        ("m:local", None),
        ("m-cloud", None),
        ("m:cloud:local", None),
        (":cloud", None),
        ("../m:cloud", None),
        ("", None),
    ],
)
def test_cloud_references(sent: str, name: str | None) -> None:
    assert cloud_name(sent) == name
