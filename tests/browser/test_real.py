"""The page of a real server with a real model."""

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.helpers import PATIENCE
from tests.helpers.server import running


def test_a_chat_with_smollm2(smollm2_gguf: str, tmp_path: Path, open_page: Open) -> None:
    with running(tmp_path) as server:
        server.create("smollm2", Path(smollm2_gguf).read_bytes())
        shown = open_page(url=server.url, model="smollm2")
        shown.page.get_by_role("button", name="Instructions and options").click()
        shown.page.get_by_label("Longest answer").fill("24")
        shown.page.get_by_label("Temperature").fill("0")
        shown.page.keyboard.press("Escape")
        shown.page.context.set_default_timeout(PATIENCE * 1000)
        shown.send("What is the capital of France?")
        answer = shown.answered()
        same = server.chat("What is the capital of France?", model="smollm2", options={"num_predict": 24})
        expect(answer.locator(".prose")).to_have_text(same.json["message"]["content"].strip())
        expect(answer.locator(".figures")).to_contain_text("tokens/s · first after")
        shown.page.get_by_role("link", name="Live", exact=True).click()
        expect(shown.page.get_by_role("region", name="Memory by model")).to_contain_text("smollm2")
