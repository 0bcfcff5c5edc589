"""The benchmark of drafts compares neighbouring runs with and without them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speculation import SCENARIOS, Figures, body, line, main
from tests.benchmarks.servers import response, serving
from tests.helpers.application import Application
from tests.helpers.models import tiny


def test_requests_with_and_without_drafts_differ_in_one_option() -> None:
    without = body("m", "prose", 1, 4096, drafts=False)
    drafted = body("m", "prose", 1, 4096, drafts=True)
    assert without["options"].pop("draft_num_predict") == 0
    assert drafted["options"].pop("draft_num_predict") == 15
    assert without == drafted


def test_a_format_is_sent_where_the_scenario_has_one() -> None:
    assert [name for name in SCENARIOS if "format" in body("m", name, 1, 4096, drafts=True)] == ["json"]


def test_the_ratio_is_that_of_neighbours() -> None:
    slow = [Figures(100, 0, 0, 100, 10.0), Figures(100, 0, 0, 100, 20.0), Figures(100, 0, 0, 100, 40.0)]
    fast = [Figures(100, 60, 45, 50, 15.0), Figures(100, 60, 45, 50, 40.0), Figures(100, 60, 45, 50, 80.0)]
    assert line("edit", 1, slow, fast) == "| edit | 1 | 20.0 | 40.0 | **2.00** | 0.50 | 75% |"


def test_a_row_is_printed_for_each_scenario_and_number_of_clients(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    application = Application(tmp_path / "home")
    try:
        application.create("m", tiny(tmp_path, "tiny"))
        application.set_reply("a", "b", "c")
        url = f"http://127.0.0.1:{application.port}"
        main(["--url", url, "--model", "m", "--scenario", "edit,json", "--clients", "1,2", "--repeats", "1"])
    finally:
        application.close()
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1:3] for row in rows] == [
        [" edit ", " 1 "],
        [" edit ", " 2 "],
        [" json ", " 1 "],
        [" json ", " 2 "],
    ]


def test_a_llama_server_takes_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[dict[str, Any]] = []

    def handle(path: str, data: bytes) -> bytes:
        asked.append(json.loads(data) | {"path": path})
        return response(b'{"timings":{"predicted_per_second":50.0}}')

    async def compare(application: Application) -> None:
        async with serving(handle) as other:
            url = f"http://127.0.0.1:{application.port}"
            arguments = [
                "--url",
                url,
                "--model",
                "m",
                "--scenario",
                "json",
                "--repeats",
                "2",
                "--other",
                other,
            ]
            await asyncio.to_thread(main, arguments)

    application = Application(tmp_path / "home")
    try:
        application.create("m", tiny(tmp_path, "tiny"))
        application.set_reply("a", "b", "c")
        asyncio.run(compare(application))
    finally:
        application.close()
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.endswith("| other, tokens/s | on/other |")
    assert row.split(" | ")[7] == "50.0"
    assert [(one["path"], one["max_tokens"]) for one in asked] == [
        ("/v1/chat/completions", tokens) for tokens in (64, 400, 400)
    ]
    assert asked[0]["response_format"]["json_schema"]["schema"] == SCENARIOS["json"]["format"]


def test_without_drafts_there_is_no_acceptance() -> None:
    runs = [Figures(100, 0, 0, 100, 10.0)]
    assert line("prose", 4, runs, runs).endswith("| 4.00 | - |")
