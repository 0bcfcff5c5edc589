"""Comparison of WebSocket with HTTP: the command with a server that it starts, and its table."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.websocket import Parameters, Pass, main, over_one_connection, table
from ollama_tw.cli.bench.statistics import Summary
from tests.helpers.models import tiny


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.gguf"
    file.write_bytes(tiny(tmp_path, "tiny.gguf"))
    return file


def test_all_transports_give_all_tokens(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model", str(model), "--variant", "transport", "--streams", "3", "--tokens", "40"]
    assert main([*argv, "--repeats", "1"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line]
    assert [row[0].strip("| ") for row in rows] == [
        "transport",
        "---",
        "HTTP, 3 connections",
        "WebSocket, 3 connections",
        "WebSocket, 1 connection",
    ]
    assert rows[2][2] == "1.00"
    for row in rows[2:]:
        assert float(row[1].replace(",", "")) > 0


def test_requests_that_fail_are_told(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model", str(model), "--variant", "transport", "--streams", "1", "--repeats", "1"]
    assert main([*argv, "--timeout", "0.01", "--tokens", "8000"]) == 1
    assert "WebSocket, 1 connection: no end after 0.01 s\n" in capsys.readouterr().err


def test_the_share_is_the_median_of_neighbours() -> None:
    def one(speed: float, cpu: float) -> Pass:
        return Pass(Summary(64, 0, speed, 0.1, 0.2, 0.003, 9.0, None, 32.0, None, 0.05), cpu)

    figures = {
        "HTTP, 64 connections": [one(100, 20e-6), one(50, 30e-6), one(200, 10e-6)],
        "WebSocket, 1 connection": [one(90, 20e-6), one(60, 24e-6), one(196, 50e-6)],
    }
    assert table("model", figures).splitlines()[2:] == [
        "| HTTP, 64 connections | 100 | 1.00 | 20 µs | 100 ms | 3.0 ms | 5 % |",
        "| WebSocket, 1 connection | 90 | 0.98 | 24 µs | 100 ms | 3.0 ms | 5 % |",
    ]


def test_a_connection_that_ends_is_an_error_of_its_requests() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x40{"done":false,"id"')
        await writer.drain()
        writer.close()

    async def ask() -> str | None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with over_one_connection(Parameters(url, 0, 1, 10, lambda: 0.0)) as send:
                return (await send("hello")).error

    assert asyncio.run(ask()) == "the connection ended before a reply"
