"""The live figures in the browser: charts, memory, and requests that can be cancelled."""

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.page import stream, unload_all
from tests.helpers.application import Application


def test_the_figures_of_the_server_move(server: Application, open_page: Open) -> None:
    server.set_reply("one", " two")
    assert server.generate("go").status == 200
    live = open_page("live")
    slots = live.page.get_by_role("region", name="Slots")
    expect(slots).to_contain_text("0 of 1 busy")
    expect(live.page.get_by_role("region", name="Memory by model")).to_contain_text("1.0 MB")
    memory = live.page.get_by_role("region", name="Memory", exact=True)
    expect(memory.locator(".value")).to_have_text("1.0 MB")
    server.hold()
    with stream(server, "go") as running:
        expect(slots).to_contain_text("1 of 1 busy")
        server.release()
        assert running.rest()[-1]["done"]
    expect(slots).to_contain_text("0 of 1 busy")
    line = live.page.get_by_role("region", name="First token").locator("path.series-0")
    expect(live.page.get_by_role("region", name="First token")).to_contain_text("95 % within")
    assert line.get_attribute("d")


def test_requests_are_listed_and_cancelled(server: Application, open_page: Open) -> None:
    server.set_reply("one", " two")
    assert server.generate("go").status == 200
    server.hold()
    live = open_page("live")
    rows = live.page.get_by_role("region", name="Requests").locator("tbody tr")
    expect(live.page.get_by_text("Nothing runs at the moment.")).to_be_visible()
    with stream(server, "first") as first:
        server.runner.wait_for(lambda: server.runner.running == 1)
        with stream(server, "second") as second:
            expect(rows).to_have_count(2)
            expect(rows.nth(0)).to_contain_text("127.0.0.1")
            waiting = rows.filter(has_text="Waiting, number 1")
            waiting.get_by_role("button", name="Cancel the request to m").click()
            expect(rows).to_have_count(1)
            assert second.refusal() == (499, "the request was cancelled by DELETE /api/requests")
        server.release()
        assert first.rest()[-1]["done_reason"] == "stop"
    expect(rows).to_have_count(0)


def test_a_server_without_a_loaded_model(server: Application, open_page: Open) -> None:
    unload_all(server)
    live = open_page("live")
    expect(live.page.get_by_role("region", name="Slots")).to_contain_text("0 of 0 busy")
    expect(live.page.get_by_text("No model is in memory.")).to_be_visible()
    drawn = live.page.locator("path.line").evaluate_all("all => all.map(one => one.getAttribute('d')).join()")
    # With one point so far or with several: the newest one is at the right edge.
    assert "300.0 68.0" in drawn
    assert "NaN" not in drawn


def test_nothing_is_asked_while_the_view_is_not_shown(open_page: Open) -> None:
    page = open_page("live").page
    page.clock.install()
    page.reload()
    with page.expect_request("**/metrics"):
        page.clock.run_for(1_000)
    page.get_by_role("link", name="Chat", exact=True).click()
    expect(page.get_by_label("Message", exact=True)).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(5_000)
    page.get_by_role("link", name="Models", exact=True).click()
    expect(page.locator("li.model").first).to_be_visible()
    assert [url for url in asked if url.endswith("/metrics")] == []
