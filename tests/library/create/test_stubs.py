"""Stubs of remote models."""

from pathlib import Path

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.library.create.stubs import normal_host
from tests.helpers.gguf_files import write_gguf
from tests.library.create.harness import CreationHarness


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("/api/x/../y", "http://localhost:11434/api/y"),
        ("/", "http://localhost:11434"),
        ("example.com", "http://example.com:11434"),
        ("example.com:80", "http://example.com:80"),
        ("https://example.com", "https://example.com:11434"),
        ("https://example.com:443//a//b/./c/", "https://example.com:443/a/b/c"),
        ("http://example.com/", "http://example.com:11434"),
        ("ollama.com", "https://ollama.com:443"),
        ("http://ollama.com", "https://ollama.com:443"),
        ("https://ollama.com/", "https://ollama.com:443"),
        ("ollama.com:8080", "http://ollama.com:8080"),
        ("[::1]", "http://[::1]:11434"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_hosts(text: str, url: str) -> None:
    assert normal_host(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "http://h:port",
        "http://h:99999",
        "http://[::1",
        "ftp://h",
        "file:///etc/passwd",
        "http://user:secret@h",
        "http://h/?token=1",
        "http://h#x",
        "a b",
        "h\r\nX: 1",
    ],
)
def test_invalid_hosts(harness: CreationHarness, text: str) -> None:
    with pytest.raises(OllamaError, match="bad remote"):
        normal_host(text)
    assert harness.failure(from_="llama3", remote_host=text) == (400, "bad remote")


@pytest.mark.parametrize(
    ("fields", "host", "model"),
    [
        ({"from_": "gpt-oss:20b-cloud"}, "https://ollama.com:443", "gpt-oss:20b"),
        ({"from_": "gpt-oss:cloud"}, "https://ollama.com:443", "gpt-oss"),
        ({"from_": "Llama3", "remote_host": "box"}, "http://box:11434", "Llama3"),
        ({"from_": "me/x:cloud", "remote_host": "http://box:1/"}, "http://box:1", "me/x"),
    ],
)
def test_a_stub_has_a_host_and_no_weights(
    harness: CreationHarness, tiny: str, fields: dict[str, str], host: str, model: str
) -> None:
    statuses = harness.statuses(
        **fields,
        system="Be brief.",
        files={"tiny.gguf": tiny},
        adapters={"a.gguf": tiny},
        quantize="q8_0",
        info={"capabilities": ["completion"], "context_length": 131072},
    )
    assert statuses[1:] == ["writing manifest", "success"]
    assert harness.kinds() == ["system"]
    assert harness.config() == {
        "model_format": "",
        "model_family": "",
        "model_families": None,
        "model_type": "",
        "file_type": "",
        "remote_host": host,
        "remote_model": model,
        "capabilities": ["completion"],
        "context_length": 131072,
        "architecture": "amd64",
        "os": "linux",
    }


def test_a_stub_has_no_draft(harness: CreationHarness, tiny: str) -> None:
    fault = (400, "DRAFT cannot be used with remote models")
    assert harness.failure(from_="x:cloud", draft_files={"d.gguf": tiny}) == fault
    harness.statuses(model="stub", from_="x:cloud")
    assert harness.failure(from_="stub", draft_files={"d.gguf": tiny}) == fault


def test_a_model_from_a_stub_inherits_its_host(harness: CreationHarness) -> None:
    harness.statuses(model="stub", from_="big", remote_host="box", system="One.", parameters={"seed": 1})
    harness.statuses(model="child", from_="stub", system="Two.")
    config = harness.config("child")
    assert (config["remote_host"], config["remote_model"]) == ("http://box:11434", "big")
    assert harness.kinds("child") == ["system", "params"]
    assert harness.read(harness.layers("child")[0]["digest"]) == b"Two."


def test_a_model_with_weights_is_not_a_stub(harness: CreationHarness, tmp_path: Path) -> None:
    harness.statuses(model="base", files={"m.gguf": harness.upload(write_gguf(tmp_path / "b.gguf"))})
    harness.statuses(from_="base:local")
    assert "remote_host" not in harness.config()
    assert harness.failure(from_="a/b/c/d:cloud") == (400, "invalid model name")
