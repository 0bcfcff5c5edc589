"""The generated pages are those that docs/generate.py writes."""

import runpy

import pytest

from tests.helpers import ROOT

DOCS = ROOT / "docs"
PAGES = runpy.run_path(str(DOCS / "generate.py"))["PAGES"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "run python docs/generate.py"
