"""The dialogue for the key of a server that needs one."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Open
from tests.browser.page import Shown
from tests.helpers.models import CHATML, tiny
from tests.server.test_access import Guarded


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    application = Guarded(directory / "home", OLLAMA_KEEP_ALIVE="-1")
    application.create("m", tiny(directory, "m", chat_template=CHATML))
    application.set_reply("Hello", " there.")
    application.add("first", "admin")
    yield application
    application.close()


def dialog(shown: Shown) -> Locator:
    found: Locator = shown.page.get_by_role("dialog", name="This server needs a key")
    return found


def enter(shown: Shown, secret: str) -> None:
    dialog(shown).get_by_label("Key", exact=True).fill(secret)
    shown.page.keyboard.press("Enter")


def test_the_key_is_asked_for_and_used_for_everything(guarded: Guarded, open_page: Open) -> None:
    secret = guarded.add("everything", "admin")
    shown = open_page(url=guarded.url)
    expect(dialog(shown).get_by_label("Key", exact=True)).to_be_focused()
    assert dialog(shown).get_by_label("Key", exact=True).get_attribute("type") == "password"
    asked: list[str] = []
    shown.page.on("request", lambda request: asked.append(request.url))
    shown.page.on("websocket", lambda socket: asked.append(socket.url))
    enter(shown, secret)
    expect(dialog(shown)).to_have_count(0)
    shown.send("hi")
    expect(shown.answered()).to_contain_text("Hello there.")
    for view in ("Models", "Live"):
        shown.page.get_by_role("link", name=view, exact=True).click()
    expect(shown.page.get_by_role("region", name="Slots")).to_contain_text("0 of 1 busy")
    # It is in no URL, and the tab alone keeps it.
    assert asked
    assert [url for url in asked if secret in url] == []
    assert shown.page.evaluate("JSON.stringify({...localStorage}) + document.cookie").find(secret) == -1
    shown.page.reload()
    expect(shown.page.locator("#state")).to_contain_text("Connected")
    expect(dialog(shown)).to_have_count(0)
    other = open_page(url=guarded.url)
    expect(dialog(other)).to_be_visible()


def test_a_wrong_key_is_asked_for_again(guarded: Guarded, open_page: Open) -> None:
    secret = guarded.add("second", "inference")
    shown = open_page(url=guarded.url)
    enter(shown, "otw-wrong")
    expect(dialog(shown)).to_contain_text("does not accept the key")
    enter(shown, secret)
    expect(shown.page.locator("#state")).to_contain_text("Connected")


def test_without_a_key_the_page_says_what_is_missing(guarded: Guarded, open_page: Open) -> None:
    secret = guarded.add("third", "inference")
    shown = open_page("live", url=guarded.url)
    expect(dialog(shown)).to_be_visible()
    shown.page.keyboard.press("Escape")
    expect(shown.page.locator("#state")).to_contain_text("Key needed")
    # It is not asked for again by itself.
    shown.page.get_by_role("link", name="Models", exact=True).click()
    expect(shown.page.get_by_role("alert").filter(has_text="key").first).to_be_visible()
    expect(dialog(shown)).to_have_count(0)
    shown.page.get_by_role("button", name="Key", exact=True).click()
    enter(shown, secret)
    expect(shown.page.locator("#state")).to_contain_text("Connected")


def test_a_key_without_the_scope_of_a_view_is_told_so(guarded: Guarded, open_page: Open) -> None:
    secret = guarded.add("fourth", "inference")
    assert guarded.ask("POST", "/api/generate", secret, {"model": "m", "prompt": "hi"}).status == 200
    shown = open_page("live", url=guarded.url)
    enter(shown, secret)
    expect(shown.page.get_by_role("alert").filter(has_text="metrics").first).to_be_visible()
    # What the key may see is shown.
    memory = shown.page.get_by_role("region", name="Memory by model")
    expect(memory).to_contain_text("1.0 MB")


def test_a_key_that_is_removed_is_asked_for_again(guarded: Guarded, open_page: Open) -> None:
    secret = guarded.add("fifth", "inference")
    shown = open_page(url=guarded.url)
    enter(shown, secret)
    expect(shown.page.locator("#state")).to_contain_text("Connected")
    shown.page.get_by_label("Message", exact=True).fill("still there?")
    # The models have arrived: without the key they would not.
    expect(shown.page.get_by_role("button", name="Send", exact=True)).to_be_enabled()
    guarded.remove("fifth")
    shown.press_enter()
    expect(shown.answered().get_by_role("alert")).to_contain_text("key")
    expect(dialog(shown)).to_contain_text("does not accept the key")
    enter(shown, guarded.add("sixth", "inference"))
    shown.answer.get_by_role("button", name="Answer again").click()
    expect(shown.answered()).to_contain_text("Hello there.")


def test_an_address_with_a_slash_at_its_end_leads_to_the_page(guarded: Guarded, open_page: Open) -> None:
    secret = guarded.add("seventh", "inference")
    shown = open_page(url=guarded.url)
    shown.page.goto(f"{guarded.url}/ui/")
    assert shown.page.url.startswith(f"{guarded.url}/ui")
    enter(shown, secret)
    expect(shown.page.locator("#state")).to_contain_text("Connected")
