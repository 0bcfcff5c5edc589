"""The models in the browser: pull, show, copy, delete, load and unload."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.page import Shown, unload_all
from tests.browser.registry import HeldRegistry
from tests.helpers.application import Application
from tests.helpers.models import CHATML, tiny


@pytest.fixture
def models(server: Application, open_page: Open) -> Shown:
    """Return the page with the models, none of which is loaded."""
    unload_all(server)
    return open_page("models")


@pytest.fixture
def registry(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[HeldRegistry]:
    # Each test has its own weights: none of them finds those of another on disk.
    weights = tiny(tmp_path, request.node.name, chat_template=CHATML)
    registry = HeldRegistry(weights + bytes(6 << 20))
    yield registry
    registry.close()


def installed(server: Application) -> set[str]:
    return {one["name"] for one in server.get("/api/tags").json["models"]}


def test_the_models_are_listed_and_filtered(server: Application, models: Shown) -> None:
    items = models.page.locator("li.model")
    expect(items).to_have_count(len(installed(server)))
    expect(models.page.locator(".summary").first).to_contain_text(f"{len(installed(server))} installed")
    models.page.get_by_label("Filter the models").fill("THINK")
    assert sorted(items.locator(".model-name").all_inner_texts()) == ["go-thinker", "thinker"]
    models.page.get_by_label("Filter the models").fill("zzz")
    expect(models.page.get_by_text("No model has this name.")).to_be_visible()


def test_a_model_is_pulled_with_a_moving_bar(
    server: Application, models: Shown, registry: HeldRegistry
) -> None:
    models.page.get_by_role("textbox", name="Install a model").fill(registry.name)
    models.page.get_by_label("from a registry without TLS").check()
    models.page.get_by_role("button", name="Install", exact=True).click()
    bar = models.page.get_by_role("progressbar")
    expect(models.page.locator(".pull-text")).to_contain_text("3.1 MB of 6.3 MB")
    assert bar.evaluate("e => e.value") == pytest.approx(0.5, abs=0.02)
    registry.released.set()
    expect(models.page.locator(".pull-text")).to_contain_text("Installed")
    expect(bar).to_have_js_property("value", 1)
    name = registry.name.removesuffix(":latest")
    expect(models.page.get_by_role("button", name=name, exact=True)).to_be_visible()
    assert registry.name in installed(server)
    models.page.get_by_role("link", name="Chat", exact=True).click()
    expect(models.page.locator(f'option[value="{registry.name}"]')).to_have_count(1)
    server.request("DELETE", "/api/delete", {"model": registry.name})


def test_a_pull_is_cancelled(server: Application, models: Shown, registry: HeldRegistry) -> None:
    models.page.get_by_role("textbox", name="Install a model").fill(registry.name)
    models.page.get_by_label("from a registry without TLS").check()
    models.page.keyboard.press("Enter")
    expect(models.page.locator(".pull-text")).to_contain_text("3.1 MB of 6.3 MB")
    models.page.get_by_role("button", name="Cancel the download").click()
    expect(models.page.locator(".pull-text")).to_contain_text("Cancelled")
    assert registry.name not in installed(server)


def test_a_pull_that_fails_says_why(models: Shown) -> None:
    models.page.get_by_role("textbox", name="Install a model").fill("ollama pull not/a/valid/na me")
    models.page.keyboard.press("Enter")
    expect(models.page.locator(".pull").get_by_role("alert")).to_have_text("invalid model name")
    models.page.get_by_role("button", name="Hide the download").click()
    expect(models.page.locator(".pull")).to_have_count(0)


def test_a_model_is_copied_and_deleted(server: Application, models: Shown) -> None:
    models.page.get_by_role("button", name="Copy m", exact=True).click()
    dialog = models.page.get_by_role("dialog")
    dialog.get_by_label("Name of the copy").fill("m-two")
    models.page.keyboard.press("Enter")
    expect(models.page.get_by_role("button", name="m-two", exact=True)).to_be_visible()
    assert "m-two:latest" in installed(server)
    models.page.get_by_role("button", name="Delete m-two").click()
    expect(dialog).to_contain_text("Delete m-two?")
    dialog.get_by_role("button", name="Cancel").click()
    assert "m-two:latest" in installed(server)
    models.page.get_by_role("button", name="Delete m-two").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(models.page.get_by_role("button", name="m-two", exact=True)).to_have_count(0)
    assert "m-two:latest" not in installed(server)


@pytest.mark.parametrize("name", ["m", "embedder"])
def test_a_model_is_loaded_and_unloaded(server: Application, models: Shown, name: str) -> None:
    server.backend.gate.clear()
    models.page.get_by_role("button", name=f"Load {name}", exact=True).click()
    row = models.page.locator("li.model").filter(has=models.page.get_by_role("button", name=name, exact=True))
    expect(row).to_contain_text("Loading")
    server.backend.gate.set()
    expect(row).to_contain_text("Stays loaded")
    assert [one["name"] for one in server.get("/api/ps").json["models"]] == [f"{name}:latest"]
    models.page.get_by_role("button", name=f"Unload {name}", exact=True).click()
    expect(models.page.get_by_role("button", name=f"Load {name}", exact=True)).to_be_visible()
    assert server.get("/api/ps").json["models"] == []


def test_a_load_that_fails_says_why(server: Application, models: Shown) -> None:
    server.backend.error = "not enough memory"
    models.page.get_by_role("button", name="Load twin").click()
    problem = models.page.get_by_role("alert").filter(has_text="not enough memory")
    expect(problem).to_be_visible()
    server.backend.error = None
    # It stays when the list is read again.
    with models.page.expect_response("**/api/ps"):
        pass
    expect(models.page.get_by_role("button", name="Load twin")).to_be_enabled()
    expect(problem).to_be_visible()


def test_a_model_is_described(models: Shown) -> None:
    models.page.get_by_role("button", name="system", exact=True).click()
    dialog = models.page.get_by_role("dialog", name="system")
    expect(dialog).to_contain_text("Family")
    expect(dialog).to_contain_text("llama")
    dialog.get_by_text("Instructions").first.click()
    expect(dialog.locator("pre").first).to_have_text("Be brief.")
    models.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_a_dialog_that_is_open_for_long_gives_the_focus_back(models: Shown) -> None:
    page = models.page
    page.clock.install()
    page.reload()
    delete = page.get_by_role("button", name="Delete twin")
    delete.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    # The list is refreshed every five seconds.
    for _ in range(3):
        page.clock.run_for(5_000)
        page.evaluate("fetch('/api/tags')")
    page.keyboard.press("Escape")
    expect(delete).to_be_focused()
