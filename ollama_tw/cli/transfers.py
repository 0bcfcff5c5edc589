"""Pull, push and create with the progress of the server's records.

Source: ollama: cmd/cmd.go, PullHandler, PushHandler, CreateHandler.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from ollama_tw.cli.client import Client
from ollama_tw.cli.hints import pull_hint
from ollama_tw.cli.progress import Progress
from ollama_tw.errors import OllamaError

Report = Callable[[Any], None]
_DIGITS = 12
_SUCCESS = "success"


def pull(client: Client, model: str, *, insecure: bool = False, report: Report | None = None) -> None:
    """Pull ``model`` to the server; ``report`` gets the records instead of the display.

    On a terminal, the OllamaError of a pull that failed ends with what to do about it.
    """
    records = client.stream("/api/pull", {"model": model, "insecure": insecure})

    def show(progress: Progress, record: dict[str, Any]) -> None:
        if not record.get("digest"):
            return
        name = record["digest"]
        if name.startswith("sha256:"):
            name = name.removeprefix("sha256:")[:_DIGITS]
        # The first record of a layer precedes its download.
        if record.get("completed"):
            progress.bar(record["digest"], f"pulling {name}:", record.get("total", 0), record["completed"])

    try:
        _follow(records, show, report, "pull")
    except OllamaError as error:
        hint = pull_hint(error.message) if sys.stderr.isatty() else ""
        if not hint:
            raise
        raise OllamaError(error.status, f"{error.message}\n{hint}", error.details) from error


def push(client: Client, model: str, *, insecure: bool = False) -> None:
    """Push ``model`` from the server to its registry."""
    records = client.stream("/api/push", {"model": model, "insecure": insecure})
    _follow(records, _show_status, None, "push")


def create(client: Client, fields: dict[str, Any], report: Report | None = None) -> None:
    """Create a model from the ``fields`` of a request; ``report`` gets the records instead of the display."""
    _follow(client.stream("/api/create", fields), _show_status, report, "create")


def _show_status(progress: Progress, record: dict[str, Any]) -> None:
    progress.bar(
        record["digest"],
        record.get("status") or f"pulling {record['digest'][7:19]}...",
        record.get("total", 0),
        record.get("completed", 0),
    )


def _follow(
    records: Iterator[dict[str, Any]],
    show: Callable[[Progress, dict[str, Any]], None],
    report: Report | None,
    action: str,
) -> None:
    """Show the records until their end; raises OllamaError if the last one is not "success"."""
    status = last = ""
    with Progress() as progress:
        for record in records:
            last = record.get("status", "")
            if report is not None:
                report(record)
            elif record.get("digest"):
                progress.rest()
                show(progress, record)
            elif last != status:
                status = last
                progress.spinner(status)
    if last != _SUCCESS:
        raise OllamaError(0, f"the server ended the {action} before it was complete")
