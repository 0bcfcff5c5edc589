"""Texts of models in the browser: Markdown, code, and hostile output, all from text nodes."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.page import Shown
from tests.helpers.application import Application


@pytest.fixture
def show(server: Application, chat: Shown) -> Any:
    """Return a function that has the model answer with a text, and returns the element of the text."""

    def show(text: str) -> Any:
        server.set_reply(*(text[at : at + 400] for at in range(0, len(text), 400)))
        chat.send("go")
        return chat.answered().locator(".prose")

    return show


TEXT = """\
# Title

A *soft*, **strong**, ***both*** and ~~gone~~ line with `code <b>`,
a second line and snake_case_name, 2 * 3 * 4.

- one
  - nested
- two
  1. first
  2. second

3. three
4. four

> quoted
> > deeper

| a | b |
|---|--:|
| 1 | 2 |

---

- [x] done
- [ ] open

[a link](https://example.com/x_(y) "title"), <https://example.com/> and https://example.com/z.
"""


def test_markdown(show: Any) -> None:
    prose = show(TEXT)
    assert prose.get_by_role("heading", name="Title").evaluate("e => e.tagName") == "H2"
    assert prose.locator("em").all_inner_texts() == ["soft", "both"]
    assert prose.locator("strong").all_inner_texts() == ["strong", "both"]
    assert prose.locator("del").all_inner_texts() == ["gone"]
    assert prose.locator("p code").all_inner_texts() == ["code <b>"]
    expect(prose.locator("p").first).to_contain_text("snake_case_name, 2 * 3 * 4.")
    assert prose.locator("p").first.locator("br").count() == 1
    assert prose.locator("ul > li > ul > li").all_inner_texts() == ["nested"]
    assert prose.locator("ul > li > ol > li").all_inner_texts() == ["first", "second"]
    assert prose.locator(":scope > ol").get_attribute("start") == "3"
    assert prose.locator("blockquote blockquote").inner_text() == "deeper"
    assert prose.locator("th").all_inner_texts() == ["a", "b"]
    assert prose.locator("td").all_inner_texts() == ["1", "2"]
    assert prose.locator("td").nth(1).evaluate("e => getComputedStyle(e).textAlign") == "end"
    assert prose.locator("hr").count() == 1
    assert [box.get_attribute("aria-label") for box in prose.locator(".task").all()] == ["done", "open"]
    links = [link.get_attribute("href") for link in prose.locator("a").all()]
    assert links == ["https://example.com/x_(y)", "https://example.com/", "https://example.com/z"]
    assert {link.get_attribute("rel") for link in prose.locator("a").all()} == {
        "noopener noreferrer nofollow"
    }


def test_code_is_coloured_and_copied(show: Any, chat: Shown) -> None:
    code = 'def greet(name):\n    # A comment\n    return f"<{name}>", 42'
    prose = show(f"Here:\n\n```python\n{code}\n```\nDone.")
    assert prose.locator("pre").inner_text() == code
    assert prose.locator("figcaption").inner_text() == "python"
    assert prose.locator(".code-comment").all_inner_texts() == ["# A comment"]
    assert prose.locator(".code-keyword").all_inner_texts() == ["def", "return"]
    assert prose.locator(".code-string").all_inner_texts() == ['"<{name}>"']
    assert prose.locator(".code-number").all_inner_texts() == ["42"]
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    prose.get_by_role("button", name="Copy the code").click()
    expect(chat.page.locator("#announcer")).to_have_text("Copied")
    assert chat.page.evaluate("navigator.clipboard.readText()") == code


def test_code_that_has_not_ended_is_code(show: Any) -> None:
    prose = show("```js\nlet a = 1;\n\n# not a heading")
    assert prose.locator("pre").inner_text() == "let a = 1;\n\n# not a heading"
    assert prose.locator("h2").count() == 0


HOSTILE = [
    "<script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    "<svg onload=window.hacked=1>",
    '<iframe srcdoc="<script>parent.hacked = 1</script>"></iframe>',
    '<a href="javascript:window.hacked=1">click</a>',
    "</div></article><style>body { display: none }</style>",
    "<!-- <b>comment</b> -->",
    "&lt;script&gt; &#60;b&#62;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_is_text(show: Any, chat: Shown, text: str) -> None:
    prose = show(text)
    assert prose.inner_text() == text
    assert prose.locator("p *").count() == 0
    assert chat.page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    "text",
    [
        "[click](javascript:window.hacked=1)",
        "[click](JaVaScRiPt:window.hacked=1)",
        "[click](data:text/html,<script>parent.hacked=1</script>)",
        "[click](vbscript:x)",
        "[click](/api/delete)",
        "<javascript:window.hacked=1>",
    ],
)
def test_links_lead_to_the_web_only(show: Any, text: str) -> None:
    prose = show(text)
    assert prose.inner_text() == text
    assert prose.locator("a").count() == 0


def test_an_image_is_a_link_and_is_not_fetched(show: Any, chat: Shown) -> None:
    fetched: list[str] = []
    chat.page.on("request", lambda request: fetched.append(request.url))
    prose = show("![a cat](https://example.com/cat.png?secret)")
    assert prose.locator("img").count() == 0
    assert (
        prose.get_by_role("link", name="a cat").get_attribute("href") == "https://example.com/cat.png?secret"
    )
    assert [url for url in fetched if "example.com" in url] == []


def test_control_characters_are_visible(show: Any) -> None:
    prose = show("a\x00b\x1b[31mc\x7fd\x85e\u202etxt.exe\u2066f\rg")
    assert prose.inner_text() == "a␀b␛[31mc␡d[U+0085]e[U+202E]txt.exe[U+2066]f\ng"


def test_names_and_arguments_of_calls_are_text(server: Application, open_page: Any) -> None:
    chat = open_page(model="tools")
    name = "<img src=x onerror=window.hacked=1>"
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}]
    options = json.dumps({"tools": json.dumps(tools)})
    chat.page.evaluate("text => sessionStorage.setItem('ollama-options', text)", options)
    chat.page.reload()
    call = {"name": name, "arguments": {"<b>": "</pre><script>window.hacked=1</script>"}}
    server.set_reply("<tool_call>", json.dumps(call), "</tool_call>")
    chat.send("go")
    answer = chat.answered()
    assert answer.locator(".tool-call code").inner_text() == name
    expect(answer.locator(".tool-call pre")).to_contain_text("</pre><script>window.hacked=1</script>")
    assert chat.page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    "text",
    [
        "x" * 150_000,
        "*" * 50_000,
        "*a " * 20_000,
        "[" * 50_000,
        "[a](" * 15_000,
        "`" * 20_001 + " ``",
        "> " * 20_000 + "deep",
        "- " * 20_000 + "deep",
        "1. a\n" * 5_000,
        "|" * 40_000 + "\n|-|\n",
        "http://" + "." * 60_000,
        "```" + " " * 60_000 + "`",
        "a\n" * 30_000,
        "- " * 30_000 + "x",
        "_a_" * 20_000,
        "\\" * 40_001,
    ],
    ids=lambda text: repr(text[:8]),
)
def test_long_texts_do_not_stop_the_page(show: Any, chat: Shown, text: str) -> None:
    """The time-out of Playwright is the measure: what is not linear takes minutes."""
    prose = show(text)
    assert prose.evaluate("e => e.childElementCount") > 0
    # The page scrolls in one direction only, and still reacts.
    assert chat.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.page.get_by_role("heading", name="What is on your mind?")).to_be_visible()
