"""The page as a whole: colours, phones, the keyboard, accessibility, what it loads."""

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from benchmarks.page import PAINTED
from tests.browser.conftest import Open
from tests.browser.page import Shown, stream
from tests.helpers.application import Application

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VIEWS = ("chat", "models", "live")

RICH = """\
# Heading

Some *text* with `code`, [a link](https://example.com) and a list:

1. one
2. two

| a | b |
|---|---|
| 1 | 2 |

> quoted

```python
def f():  # comment
    return "text", 1
```
"""


FOCUSED = """(() => {
    const element = document.activeElement;
    return element.getAttribute("aria-label") ?? (element.labels?.[0] ?? element).textContent.trim();
})()"""
"""Name of the element that has the focus."""


TRANSFERRED = """
["navigation", "resource"].flatMap(
    (type) => performance.getEntriesByType(type).map((entry) => entry.transferSize),
)
"""
"""Bytes of each response, the head included."""


def background(shown: Shown) -> int:
    """Return the lightness of the page, from 0 to 255."""
    colour = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = colour.removeprefix("rgb(").split(",")[0]
    return int(red)


def test_the_colours_are_the_systems_until_they_are_chosen(open_page: Open) -> None:
    light = open_page()
    assert background(light) > 200
    dark = open_page(color_scheme="dark")
    assert background(dark) < 60
    dark.page.get_by_role("button", name="Light colours").click()
    assert background(dark) > 200
    dark.page.reload()
    assert background(dark) > 200
    dark.page.get_by_role("button", name="Dark colours").click()
    assert background(dark) < 60
    # It follows the system again.
    dark.page.emulate_media(color_scheme="light")
    assert background(dark) > 200


def violations(shown: Shown) -> list[tuple[str, str]]:
    """Return what axe-core finds, without what is minor: the rule and the elements."""
    found = Axe().run(shown.page).response["violations"]
    return [
        (one["id"], "; ".join(node["html"][:200] for node in one["nodes"]))
        for one in found
        if one["impact"] in ("moderate", "serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_conversation(server: Application, open_page: Open, scheme: Any) -> None:
    chat = open_page(model="thinker", color_scheme=scheme, reduced_motion="reduce")
    assert violations(chat) == []
    server.set_reply("<think>", "So.", "</think>", RICH)
    chat.send("hi")
    chat.answered().get_by_text("Thought for").click()
    assert violations(chat) == []
    chat.page.get_by_role("button", name="Instructions and options").click()
    assert violations(chat) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_other_views(server: Application, open_page: Open, scheme: Any) -> None:
    server.set_reply("one", " two")
    assert server.generate("go").status == 200
    models = open_page("models", color_scheme=scheme, reduced_motion="reduce")
    expect(models.page.locator("li.model").first).to_be_visible()
    assert violations(models) == []
    models.page.get_by_role("button", name="system", exact=True).click()
    expect(models.page.get_by_role("dialog")).to_contain_text("Modelfile")
    assert violations(models) == []
    server.hold()
    with stream(server, "go"):
        live = open_page("live", color_scheme=scheme, reduced_motion="reduce")
        expect(live.page.get_by_role("region", name="Slots")).to_contain_text("1 of 1 busy")
        assert violations(live) == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_every_view_without_scrolling_sideways(open_page: Open, view: str) -> None:
    phone = open_page(view, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    expect(phone.page.get_by_role("navigation")).to_be_visible()
    expect(phone.page.locator("#state")).to_contain_text("Connected")
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 360
    # In one call: the page replaces buttons while it learns of the server's models.
    boxes = phone.page.locator("button:visible").evaluate_all(
        "buttons => buttons.map(button => button.getBoundingClientRect()).map(box => [box.left, box.right])"
    )
    assert boxes
    for left, right in boxes:
        assert left >= 0
        assert right <= 360


def test_everything_is_done_with_the_keyboard(server: Application, open_page: Open) -> None:
    shown = open_page()
    keyboard = shown.page.keyboard
    expect(shown.page.locator("#state")).to_contain_text("Connected")
    expect(shown.page.get_by_label("Model", exact=True)).to_have_value("m:latest")

    def focused() -> str:
        name: str = shown.page.evaluate(FOCUSED)
        return name

    def tab_to(name: str) -> None:
        for _ in range(60):
            if focused() == name:
                return
            keyboard.press("Tab")
        raise AssertionError(f"{name} cannot be reached")

    # The field for the message has the focus when the page is opened.
    assert focused() == "Message"
    server.set_reply("Hello", " there.")
    keyboard.type("hi")
    shown.press_enter()
    expect(shown.answered()).to_contain_text("Hello there.")
    tab_to("Instructions and options")
    keyboard.press("Enter")
    assert focused().startswith("Instructions")
    keyboard.press("Escape")
    assert focused() == "Instructions and options"

    keyboard.press("Control+Home")
    shown.page.evaluate("document.activeElement.blur()")
    tab_to("Models")
    keyboard.press("Enter")
    expect(shown.page.locator("li.model").first).to_be_visible()
    tab_to("Delete twin")
    keyboard.press("Enter")
    expect(shown.page.get_by_role("dialog")).to_be_visible()
    # The safe answer comes first.
    assert focused() == "Cancel"
    keyboard.press("Enter")
    expect(shown.page.get_by_role("dialog")).to_have_count(0)
    assert focused() == "Delete twin"


def test_a_message_of_several_lines(server: Application, chat: Shown) -> None:
    server.set_reply("Yes.")
    field = chat.page.get_by_label("Message", exact=True)
    field.press_sequentially("one")
    field.press("Shift+Enter")
    field.press_sequentially("two")
    chat.press_enter()
    expect(chat.answered()).to_contain_text("Yes.")
    assert server.job.prompt == "<|user|>one\ntwo<|assistant|>"


def test_enter_begins_a_line_on_a_touch_screen(server: Application, open_page: Open) -> None:
    server.set_reply("Yes.")
    phone = open_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    expect(phone.page.locator("#state")).to_contain_text("Connected")
    field = phone.page.get_by_label("Message", exact=True)
    # The focus would open the keyboard of the phone.
    expect(field).not_to_be_focused()
    field.press_sequentially("one")
    field.press("Enter")
    field.press_sequentially("two")
    phone.page.get_by_role("button", name="Send", exact=True).tap()
    expect(phone.answered()).to_contain_text("Yes.")
    assert server.job.prompt == "<|user|>one\ntwo<|assistant|>"


def test_escape_stops_the_answer(server: Application, chat: Shown) -> None:
    server.set_reply("Go.")
    chat.send("warm up")
    chat.answered()
    server.hold()
    chat.send("go on")
    expect(chat.page.get_by_role("button", name="Stop")).to_be_visible()
    chat.page.keyboard.press("Escape")
    expect(chat.answered().locator(".figures")).to_contain_text("Stopped")


def test_screen_readers_hear_the_answer_once_it_is_complete(server: Application, chat: Shown) -> None:
    server.set_reply("Forty", "-two.")
    chat.send("6 * 7?")
    chat.answered()
    expect(chat.page.get_by_role("status").filter(has_text="Answer: Forty-two.")).to_have_count(1)
    assert chat.answer.get_attribute("aria-label") == "Answer of m:latest"


def test_the_page_loads_nothing_from_elsewhere(server: Application, open_page: Open) -> None:
    shown = open_page()
    asked: list[str] = []
    shown.page.on("request", lambda request: asked.append(request.url))
    shown.page.reload()
    expect(shown.page.locator("#state")).to_contain_text("Connected")
    for view in ("Models", "Live", "Chat"):
        shown.page.get_by_role("link", name=view, exact=True).click()
    assert asked
    assert {url for url in asked if not url.startswith(server.url + "/")} == set()


def test_the_first_visit_transfers_little(open_page: Open) -> None:
    shown = open_page()
    expect(shown.page.locator("#state")).to_contain_text("Connected")
    sizes = shown.page.evaluate(TRANSFERRED)
    # The page and its modules, with their heads.
    assert len(sizes) > 20
    assert sum(sizes) < 120_000


def test_the_page_is_painted_before_anything_else_arrives(browser: "Browser", server: Application) -> None:
    with closing(browser.new_context(color_scheme="light")) as context:
        page = context.new_page()
        page.route("**/ui/*", lambda route: None)
        page.goto(f"{server.url}/ui", wait_until="commit")
        page.evaluate(PAINTED)
        expect(page.get_by_role("link", name="Models", exact=True)).to_be_visible()
        # The style sheets of the whole page and of the chat apply.
        assert page.evaluate("getComputedStyle(document.body).margin") == "0px"
        assert page.locator("#view-chat").evaluate("element => getComputedStyle(element).display") == "grid"
        page.unroute_all(behavior="ignoreErrors")
