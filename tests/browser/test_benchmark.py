"""Measurement of a first visit of the page."""

from typing import TYPE_CHECKING

from benchmarks.page import visit
from tests.helpers.application import Application

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_the_figures_of_a_first_visit(browser: "Browser", server: Application) -> None:
    figures = visit(browser, server.url)
    assert 0 < figures.first_paint <= figures.first_text
    assert figures.scripts_ran > 0
    assert len(server.get("/ui/chat.js").body) < figures.transferred < 120_000
