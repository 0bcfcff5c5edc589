"""The page in a real browser: a Chromium of the system, driven by Playwright."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.page import Shown, install_vision
from tests.helpers.application import Application
from tests.helpers.models import install

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TIMEOUT = 20_000
"""Milliseconds after which something that is not shown fails a test."""

Open = Callable[..., Shown]


@pytest.fixture(scope="package")
def browser(browser_program: str) -> "Iterator[Browser]":
    """Start the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, as in containers, Chromium runs without its sandbox only.
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        browser = playwright.chromium.launch(executable_path=browser_program, chromium_sandbox=not root)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """Start a server with small models on the fake backend, of which ``seer`` reads images."""
    directory = tmp_path_factory.mktemp("page")
    application = Application(directory / "home", OLLAMA_KEEP_ALIVE="-1")
    install(application, directory)
    install_vision(application, directory)
    yield application
    application.close()


@pytest.fixture
def server(running: Application) -> Iterator[Application]:
    """Return the server; it answers nothing until the test sets a reply."""
    running.set_reply()
    yield running
    running.release()


@pytest.fixture
def open_page(browser: "Browser", server: Application) -> Iterator[Open]:
    """Return a function that opens the page in a fresh profile.

    At the end of the test no error may have occurred in the page's scripts, nor any violation of its policy.
    """
    opened: list[Shown] = []

    from playwright.sync_api import expect

    def open_page(view: str = "chat", *, url: str = "", model: str = "m", **options: Any) -> Shown:
        expect.set_options(timeout=TIMEOUT)
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        context.set_default_timeout(TIMEOUT)
        shown = Shown(context.new_page(), url or server.url)
        opened.append(shown)
        shown.goto(view, model)
        return shown

    yield open_page
    for shown in opened:
        shown.page.context.close()
    assert [error for shown in opened for error in shown.errors] == []


@pytest.fixture
def chat(open_page: Open) -> Shown:
    """Return the page with the chat, the model ``m`` chosen."""
    return open_page()
