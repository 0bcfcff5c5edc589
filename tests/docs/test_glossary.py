"""The modules that the glossary refers to exist."""

import re

import pytest

from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "glossary.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?|[a-z_]+\.py)`", PAGE)))
NAMES = sorted(
    set(re.findall(r"`([A-Z][A-Za-z]+|_[A-Z_]+|[A-Z][A-Za-z]+\.[a-z_]+)` in `([a-z_/]+\.py)`", PAGE))
)


@pytest.mark.parametrize("path", PATHS)
def test_a_module_exists(path: str) -> None:
    assert (ROOT / "ollama_tw" / path).exists()


@pytest.mark.parametrize(("name", "path"), NAMES)
def test_a_name_is_in_its_module(name: str, path: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / "ollama_tw" / path).read_text())
