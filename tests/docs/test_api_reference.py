"""Pages of docs/api: their links are valid, and the errors that they list are texts of the code."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.contract.document import FOLDER

PACKAGE = FOLDER.parents[1] / "ollama_tw"
PAGES = sorted(path.name for path in FOLDER.glob("*.md"))


def links(page: str) -> Iterator[tuple[Path, str]]:
    """File and anchor of each relative link of a page; the anchor is empty where it has none."""
    for target in re.findall(r"\]\(([^)]+)\)", (FOLDER / page).read_text()):
        path, _, anchor = target.partition("#")
        yield (FOLDER / path if path else FOLDER / page).resolve(), anchor


def anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for file, anchor in links(page):
        assert file.exists(), file
        assert not anchor or anchor in anchors(file), (file, anchor)


def test_the_overview_links_to_every_page() -> None:
    linked = {file.name for file, _ in links("index.md")}
    assert {*PAGES, "openapi.yaml"} - {"index.md"} <= linked


# -------------------------------------------------------------------------------------------- the errors


def errors(page: str) -> Iterator[str]:
    """Yield the texts in the column ``error`` of the tables of a page."""
    for table in re.findall(r"(?:^\|.*\n)+", (FOLDER / page).read_text(), re.MULTILINE):
        head, _, *rows = [re.split(r" \| ", line.strip("| \n")) for line in table.splitlines()]
        if "error" in head:
            column = head.index("error")
            for row in rows:
                yield from re.findall(r"^`(.+)`$", row[column] if len(row) > column else "")


@cache
def literals() -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """Return the strings of the package, and its f-strings as patterns with a group for each expression."""
    strings, patterns = set(), set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.add(node.value.strip())
            elif isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else None for part in node.values]
                if any(part and re.search("[A-Za-z]{2}", part) for part in parts):
                    patterns.add("".join("(.*)" if part is None else re.escape(part) for part in parts))
    return frozenset(strings), tuple(re.compile(pattern, re.DOTALL) for pattern in patterns)


@cache
def known(text: str) -> bool:
    """Return True if the code contains ``text``, or formats it from its strings.

    ``{name}`` in the text stands for any value.
    """
    strings, patterns = literals()
    fixed = re.sub(r"\{\w+\}", "", text).strip()
    if fixed in strings or not re.search("[A-Za-z]", fixed):
        return True
    matches = (pattern.fullmatch(text) for pattern in patterns)
    return any(match is not None and all(map(known, match.groups())) for match in matches)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_errors_are_texts_of_the_code(page: str) -> None:
    assert [text for text in errors(page) if not known(text)] == []
