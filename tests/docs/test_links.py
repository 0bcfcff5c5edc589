"""The links of the pages lead to files that exist, also where a page is part of the documentation site."""

import re
from pathlib import Path

import pytest

from tests.helpers import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TOP = sorted(ROOT.glob("*.md"))
ON_THE_SITE = sorted(
    name for page in PAGES for name in re.findall(r'^--8<-- "(\w+\.md)"', page.read_text(), re.M)
)


def _targets(page: Path) -> list[str]:
    """Return the targets of the links of a page that are relative paths, without anchors."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [target for target in targets if target and ":" not in target]


@pytest.mark.parametrize("page", [*PAGES, *TOP], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    assert [target for target in _targets(page) if not (page.parent / target).exists()] == []


def test_pages_of_the_top_are_on_the_site() -> None:
    assert ON_THE_SITE == ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]


@pytest.mark.parametrize("name", ON_THE_SITE)
def test_a_page_that_is_also_on_the_site_links_to_no_file(name: str) -> None:
    """The same path would have to be right in two folders."""
    assert _targets(ROOT / name) == []
