"""Benchmark of embeddings with two small servers, one of each dialect; the clock is a counter."""

import asyncio
import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from benchmarks.embed import main, table
from tests.benchmarks.servers import Handler, response, serving

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def ollama(body: dict[str, Any]) -> dict[str, Any]:
    return {"model": body["model"], "embeddings": [[1.0] for _ in body["input"]]}


def openai(body: dict[str, Any]) -> dict[str, Any]:
    return {"data": [{"embedding": [1.0]} for _ in body["input"]]}


def logging(answer: Answer, log: list[tuple[str, list[str]]]) -> Handler:
    """Return a handler that appends the path and the input of each request to ``log``."""

    def handle(path: str, data: bytes) -> bytes:
        body = json.loads(data)
        log.append((path, body["input"]))
        return response(json.dumps(answer(body)).encode())

    return handle


def compare(ours: Answer, theirs: Answer, *argv: str) -> tuple[int, list[tuple[str, list[str]]]]:
    log: list[tuple[str, list[str]]] = []
    ticks = count()

    async def both() -> int:
        async with serving(logging(ours, log)) as a, serving(logging(theirs, log)) as b:
            urls = ["--url", f"ours:ollama={a}", "--url", f"theirs:openai={b}", "--model", "m"]
            code: int = await asyncio.to_thread(main, [*urls, *argv], clock=lambda: float(next(ticks)))
            return code

    return asyncio.run(both()), log


def test_both_get_the_same_texts_alternately(capsys: pytest.CaptureFixture[str]) -> None:
    code, log = compare(ollama, openai, "--clients", "2", "--requests", "3", "--texts", "4", "--repeats", "2")
    assert code == 0
    # A request of each client first, then two rounds of three.
    paths = [path for path, _ in log]
    assert paths == [
        *(["/api/embed"] * 2 + ["/v1/embeddings"] * 2),
        *(["/api/embed"] * 6 + ["/v1/embeddings"] * 6) * 2,
    ]
    texts = {path: sorted(text for which, each in log if which == path for text in each) for path in paths}
    assert texts["/api/embed"] == texts["/v1/embeddings"]
    assert len(set(texts["/api/embed"])) == 56
    # Every run takes one tick of the clock: 24 texts.
    assert capsys.readouterr().out == (
        "| server | texts/s | first : this |\n| --- | ---: | ---: |\n"
        "| ours | 24.0 | 1.00 |\n| theirs | 24.0 | 1.00 |\n"
    )


def test_the_ratio_is_the_median_of_neighbours() -> None:
    lines = table({"a": [10.0, 30.0, 20.0], "b": [10.0, 10.0, 10.0]}).splitlines()
    assert lines[3] == "| b | 10.0 | 2.00 |"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda body: {"embeddings": [[1.0]]}, "1 embeddings for 4 texts"),
        (lambda body: {"embeddings": [[1.0], [], [1.0], [1.0]]}, "the reply has an empty embedding"),
    ],
)
def test_replies_that_are_not_whole_are_no_figures(
    answer: Answer, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = compare(answer, openai, "--texts", "4")
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert text in err
