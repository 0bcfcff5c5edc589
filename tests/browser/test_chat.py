"""The chat in the browser: streams, stops, thinking, images, tools, options."""

import json
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.page import IMAGE, Shown, stream, unload_all
from tests.helpers.application import Application
from tests.helpers.models import WEATHER


def held_after(server: Application, *pieces: str) -> Iterator[str]:
    """Yield the pieces, then pause generation: what follows waits for the test."""
    yield from pieces
    server.hold()
    yield " the end"


def test_an_answer_is_shown_while_it_is_generated(server: Application, chat: Shown) -> None:
    server.pieces = held_after(server, "Blue", " light", " scatters")
    chat.send("Why is the sky blue?")
    expect(chat.page.locator(".message.user")).to_contain_text("Why is the sky blue?")
    expect(chat.answer).to_contain_text("Blue light scatters")
    expect(chat.page.get_by_role("button", name="Stop")).to_be_visible()
    server.release()
    answer = chat.answered()
    expect(answer).to_contain_text("Blue light scatters the end")
    expect(answer.locator(".figures")).to_contain_text("4 tokens · 1,000 tokens/s")
    expect(chat.page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def test_an_answer_is_stopped(server: Application, chat: Shown) -> None:
    server.pieces = held_after(server, "One", " two")
    chat.send("Count.")
    expect(chat.answer).to_contain_text("One two")
    chat.page.get_by_role("button", name="Stop").click()
    answer = chat.answered()
    expect(answer.locator(".figures")).to_contain_text("Stopped")
    assert "the end" not in answer.inner_text()
    assert server.job.cancel.is_set()
    server.runner.wait_for(lambda: server.runner.running == 0)


def test_the_conversation_goes_on_and_an_answer_is_generated_again(server: Application, chat: Shown) -> None:
    server.set_reply("First.")
    chat.send("one")
    expect(chat.answered()).to_contain_text("First.")
    server.set_reply("Second.")
    chat.send("two")
    expect(chat.answered()).to_contain_text("Second.")
    assert server.job.prompt == "<|user|>one<|assistant|>First.<|user|>two<|assistant|>"
    server.set_reply("Another.")
    chat.answer.get_by_role("button", name="Answer again").click()
    expect(chat.answered()).to_contain_text("Another.")
    expect(chat.page.locator(".message.assistant")).to_have_count(2)
    assert server.job.prompt == "<|user|>one<|assistant|>First.<|user|>two<|assistant|>"


def test_a_message_is_edited_and_sent_again(server: Application, chat: Shown) -> None:
    server.set_reply("Yes.")
    chat.send("a typo")
    chat.answered()
    chat.page.get_by_role("button", name="Edit and send again").click()
    expect(chat.page.get_by_label("Message", exact=True)).to_have_value("a typo")
    chat.send("no typo")
    chat.answered()
    expect(chat.page.locator(".message.user")).to_have_count(1)
    assert server.job.prompt == "<|user|>no typo<|assistant|>"


def test_the_conversation_outlives_a_reload_but_not_the_tab(
    server: Application, chat: Shown, open_page: Open
) -> None:
    server.set_reply("Kept.")
    chat.send("hello")
    chat.answered()
    chat.page.reload()
    expect(chat.page.locator(".message")).to_have_count(2)
    expect(chat.answer).to_contain_text("Kept.")
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.page.get_by_role("heading", name="What is on your mind?")).to_be_visible()
    other = open_page()
    expect(other.page.get_by_role("heading", name="What is on your mind?")).to_be_visible()


def test_thinking_is_folded(server: Application, open_page: Open) -> None:
    chat = open_page(model="thinker")
    expect(chat.page.get_by_label("Thinking", exact=True)).to_be_visible()
    server.set_reply("<think>", "Let me see.", "</think>", "Four.")
    chat.send("2 + 2?")
    answer = chat.answered()
    expect(answer).to_contain_text("Four.")
    expect(answer.get_by_text("Let me see.")).to_be_hidden()
    answer.get_by_text("Thought for").click()
    expect(answer.get_by_text("Let me see.")).to_be_visible()


def test_an_image_is_attached(server: Application, open_page: Open) -> None:
    chat = open_page(model="seer")
    server.set_reply("A", " dot.")
    expect(chat.page.get_by_role("button", name="Attach images")).to_be_visible()
    chat.page.locator("input[type=file]").set_input_files(
        {"name": "dot.png", "mimeType": "image/png", "buffer": IMAGE}
    )
    expect(chat.page.get_by_alt_text("Image 1")).to_be_visible()
    chat.send("What is it?")
    expect(chat.answered()).to_contain_text("A dot.")
    picture = chat.page.get_by_alt_text("Attached image 1")
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("naturalWidth", 3)
    assert server.job.images == (IMAGE,)


def test_images_are_not_offered_where_the_model_cannot_read_them(chat: Shown) -> None:
    expect(chat.page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    expect(chat.page.get_by_role("button", name="Attach images")).to_be_hidden()


def test_a_tool_call_is_shown_and_answered(server: Application, open_page: Open) -> None:
    chat = open_page(model="tools")
    chat.page.get_by_role("button", name="Instructions and options").click()
    chat.page.get_by_role("textbox", name="Tools").fill(json.dumps([WEATHER]))
    chat.page.get_by_role("button", name="Close").click()
    server.set_reply("<tool_call>", '{"name": "weather", "arguments": {"city": "Köln"}}', "</tool_call>")
    chat.send("Weather?")
    answer = chat.answered()
    expect(answer.locator(".tool-call")).to_contain_text("Calls weather")
    expect(answer.locator(".tool-call pre")).to_have_text('{\n  "city": "Köln"\n}')
    server.set_reply("It rains.")
    answer.get_by_label("Result of weather").fill("rain")
    answer.get_by_role("button", name="Give the result to the model").click()
    expect(chat.page.locator(".message.assistant").nth(1)).to_contain_text("It rains.")
    expect(chat.page.locator(".tool-result")).to_contain_text("weather")
    assert "<|tool|>rain" in server.job.prompt


def test_instructions_and_options_are_sent(server: Application, chat: Shown) -> None:
    server.set_reply("Ok.")
    chat.page.get_by_role("button", name="Instructions and options").click()
    chat.page.get_by_role("textbox", name="Instructions").fill("Be brief.")
    chat.page.get_by_label("Temperature").fill("0.3")
    chat.page.get_by_label("Longest answer").fill("7")
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("dialog")).to_have_count(0)
    chat.send("hi")
    chat.answered()
    assert server.job.prompt == "<|system|>Be brief.<|user|>hi<|assistant|>"
    assert (server.job.sampling.temperature, server.job.max_tokens) == (0.3, 7)


def test_tools_that_are_no_json_are_refused_where_they_are_typed(server: Application, chat: Shown) -> None:
    chat.page.get_by_role("button", name="Instructions and options").click()
    chat.page.get_by_role("textbox", name="Tools").fill('{"type": ')
    expect(chat.page.get_by_role("alert")).to_contain_text("The tools are not JSON")
    chat.page.get_by_role("textbox", name="Tools").fill("{}")
    expect(chat.page.get_by_role("alert")).to_have_text("The tools must be a JSON array.")


def test_an_error_of_the_server_is_shown_and_the_answer_can_be_tried_again(
    server: Application, chat: Shown
) -> None:
    server.set_reply("Half", RuntimeError("broken"))
    chat.send("hi")
    answer = chat.answered()
    expect(answer).to_contain_text("Half")
    expect(answer.get_by_role("alert")).to_be_visible()
    server.set_reply("Whole.")
    answer.get_by_role("button", name="Answer again").click()
    expect(chat.answered()).to_contain_text("Whole.")


def test_the_page_finds_the_server_again(server: Application, chat: Shown) -> None:
    status = chat.page.locator("#state")
    expect(status).to_contain_text("Connected")
    chat.page.context.set_offline(True)
    server.disconnect_all()
    expect(status).to_contain_text("Not connected")
    chat.page.context.set_offline(False)
    expect(status).to_contain_text("Connected")
    server.set_reply("Back.")
    chat.send("there?")
    expect(chat.answered()).to_contain_text("Back.")


def test_the_page_recovers_from_a_failed_list_of_models(server: Application, chat: Shown) -> None:
    status = chat.page.locator("#state")
    expect(status).to_contain_text("Connected")
    requests = []

    def fail_second(route: Any) -> None:
        # The first one comes before the connection is opened.
        requests.append(route)
        (route.abort if len(requests) == 2 else route.continue_)()

    chat.page.route("**/api/tags", fail_second)
    with chat.page.expect_response(lambda response: "/api/tags" in response.url and len(requests) > 2):
        server.disconnect_all()
    expect(status).to_contain_text("Connected")


def test_a_message_that_waits_shows_its_place(server: Application, chat: Shown) -> None:
    server.set_reply("Done.")
    chat.send("warm up")
    chat.answered()
    server.hold()
    with stream(server, "first") as first:
        server.runner.wait_for(lambda: server.runner.running == 1)
        chat.send("second")
        expect(chat.answer.locator(".phase")).to_contain_text("Waiting, number 1 of 1 in the queue")
        server.release()
        first.rest()
    expect(chat.answered()).to_contain_text("Done.")
    expect(chat.answer.locator(".phase")).to_be_hidden()


def test_the_load_of_the_model_is_shown(server: Application, chat: Shown) -> None:
    unload_all(server)
    server.set_reply("Done.")
    server.backend.gate.clear()
    chat.send("hi")
    expect(chat.answer.locator(".phase")).to_contain_text("Loading the model, 50 %")
    expect(chat.answer.get_by_role("progressbar")).to_have_js_property("value", 0.5)
    server.backend.gate.set()
    expect(chat.answered()).to_contain_text("Done.")
