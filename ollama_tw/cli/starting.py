"""Starting the server of this machine in the background, for ``ollama run`` on a terminal."""

import os
import subprocess
import sys
import time

import click

from ollama_tw.cli.client import Client, Unreachable
from ollama_tw.cli.local import is_local, server_log
from ollama_tw.cli.progress import Progress
from ollama_tw.config.settings import HOST
from ollama_tw.errors import OllamaError
from ollama_tw.posix import detached

_MAIN = "from ollama_tw.cli.main import main; main()"
_SECONDS = 60.0
_POLL_SECONDS = 0.05


def connected_or_started() -> Client:
    """Return the client of the server; offer to start one if none runs on this machine.

    Raises Unreachable if the user refuses, and OllamaError if the server does not start.
    """
    client = Client.from_environment()
    try:
        client.check()
    except Unreachable:
        if not is_local(HOST.read(os.environ, lambda text: None)) or not click.confirm(
            "No server is running. Start one in the background?", default=True, err=True
        ):
            raise
        _start(client)
    return client


def _start(client: Client) -> None:
    path = server_log()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        begin = log.tell()
        process = subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-c", _MAIN, "serve"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **detached(),
        )
    with Progress() as progress:
        progress.spinner("starting the server")
        try:
            _wait(client, process)
        except OllamaError as error:
            last = path.read_bytes()[begin:].decode(errors="replace").strip().rpartition("\n")[2]
            raise OllamaError(0, f"{error.message}: {last} (log: {path})") from error
        except KeyboardInterrupt:
            process.terminate()
            raise
        finally:
            progress.clear()
    click.echo(f"Started the server (process {process.pid}, log: {path})", err=True)


def _wait(client: Client, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the server answers; raises OllamaError if it ends, or takes too long."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            client.check()
        except Unreachable:
            if process.poll() is not None:
                raise OllamaError(0, "the server did not start") from None
            if time.monotonic() > deadline:
                process.terminate()
                raise OllamaError(0, "the server took too long to start") from None
            time.sleep(_POLL_SECONDS)
        else:
            return
