"""Comparison of two small servers, one of each dialect."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serve import main
from ollama_tw.cli.bench.exchange import Server
from ollama_tw.cli.bench.servers import parse_url
from tests.benchmarks.servers import Handler, response, serving

Reply = Callable[[dict[str, Any]], Sequence[bytes]]


def ollama_reply(body: dict[str, Any]) -> Sequence[bytes]:
    length = body["options"]["num_predict"]
    piece = b'{"response":" word","done":false}\n'
    last = b'{"response":"","done":true,"prompt_eval_count":11,"eval_count":%d}\n' % length
    return [piece] * length + [last]


def openai_reply(body: dict[str, Any]) -> Sequence[bytes]:
    length = body["max_tokens"]
    piece = b'data: {"choices":[{"text":" word"}]}\n\n'
    usage = (
        b'{"completion_tokens":%d,"prompt_tokens":11,"prompt_tokens_details":{"cached_tokens":7}}' % length
    )
    return [piece] * length + [
        b'data: {"choices":[{"text":""}],"usage":' + usage + b"}\n\n",
        b"data: [DONE]\n\n",
    ]


def short_reply(body: dict[str, Any]) -> Sequence[bytes]:
    return ollama_reply({"options": {"num_predict": 1}})


def full(body: dict[str, Any]) -> Sequence[bytes]:
    return ()


def logging(name: str, reply: Reply, log: list[tuple[str, str]]) -> Handler:
    """Return a handler that sends each piece of a reply as a chunk, or 503 if there are none.

    It appends ``name`` and the prompt of each request to ``log``.
    """

    def handle(path: str, data: bytes) -> bytes:
        body = json.loads(data)
        log.append((name, body.get("prompt", f"keep_alive {body.get('keep_alive')}")))
        if "prompt" not in body:
            return response(b'{"done":true}')
        pieces = reply(body)
        if not pieces:
            return response(b'{"error":"server busy"}', "503 Busy")
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    return handle


def compare(ours: Reply, theirs: Reply, *argv: str, restart: str = "") -> tuple[int, list[tuple[str, str]]]:
    """Run the command with a server of each dialect; return its exit status, and the requests.

    ``restart`` is the command that restarts the second server.
    """
    log: list[tuple[str, str]] = []

    async def both() -> int:
        handlers = logging("ours", ours, log), logging("theirs", theirs, log)
        async with serving(handlers[0]) as a, serving(handlers[1]) as b:
            urls = [
                "--url",
                f"ollama={a},pid={os.getpid()}",
                "--url",
                f"llama-server:openai={b}{restart and ',restart='}{restart}",
            ]
            run: Awaitable[int] = asyncio.to_thread(main, [*urls, *argv])
            return await run

    return asyncio.run(both()), log


def test_two_servers_are_compared_alternately(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "figures.json"
    code, log = compare(
        ollama_reply, openai_reply,
        "--clients", "2", "--requests", "3", "--repeats", "2", "--warmup", "0",
        "--scenario", "plain", "--output-tokens", "5", "--seed", "1", "--json", str(target), "--markdown",
    )  # fmt: skip
    assert code == 0
    turns = [(name, len(list(asked))) for name, asked in groupby(log, key=lambda entry: entry[0])]
    assert turns == [("ours", 6), ("theirs", 6), ("ours", 6), ("theirs", 6)]
    asked = {name: sorted(prompt for who, prompt in log if who == name) for name in ("ours", "theirs")}
    assert asked["ours"] == asked["theirs"]
    assert len(set(asked["ours"])) == 12

    figures = json.loads(target.read_text())
    cell = figures["cells"][0]
    assert (cell["scenario"], cell["clients"]) == ("plain", 2)
    mine, other = cell["servers"]["ollama"]["median"], cell["servers"]["llama-server"]["median"]
    assert (mine["requests"], mine["errors"], mine["output_tokens"]) == (12, 0, 5.0)
    assert (other["requests"], other["errors"], other["output_tokens"]) == (12, 0, 5.0)
    assert (mine["prompt_tokens"], mine["cached_tokens"], other["cached_tokens"]) == (11.0, None, 7.0)
    assert mine["rss"] > 1_000_000
    assert other["rss"] is None
    assert len(cell["servers"]["ollama"]["repeats"]) == 2
    assert cell["first_against"]["llama-server"]["tokens_per_second"] > 0
    assert figures["settings"]["seed"] == 1

    lines = capsys.readouterr().out.splitlines()
    ratio = next(line for line in lines if line.startswith("| plain | 2 | ollama : llama-server |"))
    assert all(float(figure) > 0 for figure in ratio.split(" | ")[3:6])
    assert any(line.startswith("| plain | 2 | ollama | ") for line in lines)


def test_all_scenarios_run_and_the_tables_print(capsys: pytest.CaptureFixture[str]) -> None:
    code, log = compare(
        ollama_reply, openai_reply,
        "--clients", "2", "--requests", "1", "--repeats", "1", "--output-tokens", "2",
    )  # fmt: skip
    assert code == 0
    # Warm-up and measured requests for 2 clients: 2 + 2, 2 + 2 and 2 + 4.
    assert [name for name, _ in log].count("ours") == 14
    out, err = capsys.readouterr()
    assert "Ratios; above 1 the first server is better" in out
    assert "[12/12] second-turn, 2 clients, repeat 1/1: llama-server\n" in err


def test_models_are_unloaded_or_servers_restarted_between_two_turns(tmp_path: Path) -> None:
    marker = tmp_path / "restarted"
    arguments = (
        "--scenario", "restart", "--clients", "1", "--requests", "1", "--repeats", "1", "--warmup", "0",
        "--long-tokens", "30", "--output-tokens", "1",
    )  # fmt: skip
    code, log = compare(ollama_reply, openai_reply, *arguments, restart=f"touch {marker}")
    assert code == 0
    assert marker.exists()
    (first, unloading, second), theirs = log[:3], log[3:]
    assert unloading == ("ours", "keep_alive 0")
    assert second[1].startswith(f"{first[1]} word ")
    assert theirs == [("theirs", first[1]), ("theirs", second[1])]


@pytest.mark.parametrize(
    ("restart", "error"),
    [
        ("", "llama-server: it cannot unload a model: add restart=COMMAND to its --url\n"),
        ("exit 3", "llama-server: exit 3 ended with the status 3\n"),
    ],
)
def test_a_server_that_is_not_restarted(restart: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = compare(
        ollama_reply, openai_reply, "--scenario", "restart", "--clients", "1", "--requests", "1",
        "--repeats", "1", "--warmup", "0", restart=restart,
    )  # fmt: skip
    assert code == 1
    assert error in capsys.readouterr().err


def test_an_open_loop_has_the_same_arrivals_for_all_servers(capsys: pytest.CaptureFixture[str]) -> None:
    code, log = compare(
        ollama_reply, openai_reply, "--scenario", "open-95", "--clients", "2", "--requests", "2",
        "--repeats", "1", "--output-tokens", "1", "--markdown",
    )  # fmt: skip
    assert code == 0
    measured = log[4:]
    assert measured[4:] == [("theirs", prompt) for _, prompt in measured[:4]]
    goodput = capsys.readouterr().out.splitlines()[2].split(" | ")[7]
    assert float(goodput) > 0


def test_an_open_loop_needs_a_warm_up(capsys: pytest.CaptureFixture[str]) -> None:
    code, log = compare(ollama_reply, openai_reply, "--scenario", "open-50", "--warmup", "0")
    assert (code, log) == (1, [])
    assert (
        "open-50: the rate of the servers is not known: warm up with some requests\n"
        in capsys.readouterr().err
    )


def test_repeats_with_failed_requests_have_no_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = compare(
        ollama_reply, full,
        "--clients", "2", "--requests", "1", "--repeats", "1", "--warmup", "0",
        "--scenario", "plain", "--markdown",
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert code == 1
    assert "| plain | 2 | ollama : llama-server | – | – | – | – | – | – |" in out
    assert "- plain, 2 clients: 2 of 2 requests to llama-server failed." in out
    assert "llama-server: 503 server busy\n" in err


def test_different_lengths_of_replies_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    compare(
        short_reply, openai_reply, "--clients", "1", "--requests", "1", "--repeats", "1", "--warmup", "0",
        "--scenario", "plain", "--output-tokens", "4", "--markdown",
    )  # fmt: skip
    assert (
        "- plain, 1 clients: the lengths of replies differ (ollama 1.0, llama-server 4.0 tokens); "
        "the ratios compare different work.\n"
    ) in capsys.readouterr().out


def test_a_url_names_dialect_process_and_model() -> None:
    assert parse_url("ollama=http://h:1", "m") == Server("ollama", "ollama", "http://h:1", "m", None)
    assert parse_url("mine:openai=http://h:1,pid=12,model=a:b", "m") == Server(
        "mine", "openai", "http://h:1", "a:b", 12
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("grpc=http://h", "grpc=http://h: unknown dialect 'grpc', not one of ollama, openai, openai-chat"),
        ("ollama=h:1", "ollama=h:1: not an http:// or https:// address"),
        ("ollama=http://h,port=1", "ollama=http://h,port=1: unknown 'port', not pid, model, key or restart"),
    ],
)
def test_a_wrong_url_is_explained(value: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--url", value])
    assert text in capsys.readouterr().err


def test_two_servers_need_two_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--url", "ollama=http://h:1", "--url", "ollama=http://h:2"])
    assert "two servers have the same name" in capsys.readouterr().err
