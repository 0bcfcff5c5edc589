"""Model names and references."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.errors import OllamaError
from ollama_tw.library.names import InvalidName, Name, ReferenceSource, parse_name, split_source


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("llama3", "registry.ollama.ai/library/llama3:latest", "llama3:latest"),
        ("llama3:8b", "registry.ollama.ai/library/llama3:8b", "llama3:8b"),
        ("me/x", "registry.ollama.ai/me/x:latest", "me/x:latest"),
        ("LIBRARY/x", "registry.ollama.ai/LIBRARY/x:latest", "x:latest"),
        ("h:5000/ns/m", "h:5000/ns/m:latest", "h:5000/ns/m:latest"),
        ("h/library/m", "h/library/m:latest", "h/library/m:latest"),
        ("hf.co/bartowski/Foo-GGUF:Q4_K_M",) + ("hf.co/bartowski/Foo-GGUF:Q4_K_M",) * 2,
        ("http://localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("_x._-", "registry.ollama.ai/library/_x._-:latest", "_x._-:latest"),
    ],
)
def test_valid_names(text: str, full: str, short: str) -> None:
    name = parse_name(text)
    assert (name.full, name.short) == (full, short)


def test_a_scheme_is_not_part_of_the_name() -> None:
    assert parse_name("http://localhost:5000/a/b").scheme == "http"
    assert parse_name("a").scheme == "https"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "m:", ":t", "/m", "n/", "//", "a/b/c/d", "localhost:5000/m", "a b", "m\n", "é", "-a", ".a",
        "..", "../..", "a/../b", "h/../m", "a.b/m", "m@sha256:00", "m:t:u", "m:" + "t" * 81, "m" * 81,
        "n" * 81 + "/m", "h" * 351 + "/n/m", "m\0", "http:///n/m/x", "٣",
    ],
)  # fmt: skip
def test_invalid_names(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_name(text)


def test_the_longest_names() -> None:
    name = parse_name("h" * 350 + "/" + "n" * 80 + "/" + "m" * 80 + ":" + "t" * 80)
    assert name.parts == ("h" * 350, "n" * 80, "m" * 80, "t" * 80)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=string.ascii_letters + "._-:/!é\0 ", max_size=30))
def test_a_valid_name_stays_inside_its_directory_and_round_trips(text: str) -> None:
    try:
        name = parse_name(text)
    except InvalidName:
        return
    assert all(part not in ("", ".", "..") and "/" not in part and part[0] not in ".-" for part in name.parts)
    assert parse_name(name.full).parts == name.parts
    assert parse_name(name.short).short == name.short


@pytest.mark.parametrize(
    ("raw", "base", "source"),
    [
        ("llama3", "llama3", ReferenceSource.UNSPECIFIED),
        (" llama3:8b ", "llama3:8b", ReferenceSource.UNSPECIFIED),
        ("llama3:local", "llama3", ReferenceSource.LOCAL),
        ("m:8b:CLOUD", "m:8b", ReferenceSource.CLOUD),
        ("gpt-oss:20b-cloud", "gpt-oss:20b", ReferenceSource.CLOUD),
        ("gpt-oss-cloud", "gpt-oss-cloud", ReferenceSource.UNSPECIFIED),
        ("h:5000/a-cloud", "h:5000/a-cloud", ReferenceSource.UNSPECIFIED),
    ],
)
def test_source_suffix(raw: str, base: str, source: ReferenceSource) -> None:
    assert split_source(raw) == (base, source)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("m:cloud:local", 'use either :local or :cloud, not both: "m:cloud:local"'),
        ("m:20b-cloud:local", 'use either :local or :cloud, not both: "m:20b-cloud:local"'),
        ("  ", "model is required"),
    ],
)
def test_source_errors(raw: str, text: str) -> None:
    with pytest.raises(OllamaError) as caught:
        split_source(raw)
    assert (caught.value.status, caught.value.message) == (400, text)


def test_names_are_hashable_values() -> None:
    assert parse_name("llama3") == Name("registry.ollama.ai", "library", "llama3", "latest")
