"""The modules that the architecture page and the guide for contributors refer to exist."""

import re

import pytest

from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
PACKAGE = ROOT / "ollama_tw"

# Rows of the table of packages: their names, and the paths in the last column.
READ_FIRST = [
    (packages, path)
    for packages, paths in re.findall(r"^\| (`[^|]+/`) \| [^|]+ \| ([^|]+) \|$", PAGE, re.M)
    for path in re.findall(r"`([^`]+)`", paths)
]
MODULES = sorted(set(re.findall(r"`([a-z_/]+\.py)`", PAGE)))
GUIDE_PATHS = sorted(set(re.findall(r"`(ollama_tw/[a-z_/.]+)`", GUIDE)))


def test_the_pages_name_modules() -> None:
    assert READ_FIRST
    assert MODULES
    assert GUIDE_PATHS


@pytest.mark.parametrize(("packages", "path"), READ_FIRST)
def test_what_to_read_first_is_in_the_package(packages: str, path: str) -> None:
    names = re.findall(r"`([^`]+)/`", packages)
    folders = [PACKAGE / name if len(names) == 1 else (PACKAGE / name).parent for name in names]
    assert all((folder / path).exists() for folder in folders)


@pytest.mark.parametrize("path", MODULES)
def test_a_module_exists(path: str) -> None:
    assert list(PACKAGE.rglob(path)) or (ROOT / path).exists()


@pytest.mark.parametrize("path", GUIDE_PATHS)
def test_a_path_of_the_guide_exists(path: str) -> None:
    assert (ROOT / path).exists()
