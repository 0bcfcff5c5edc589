"""Loading and unloading a model on the server, with a spinner.

Source: ollama: cmd/cmd.go, loadOrUnloadModel.
"""

import http.client
from typing import Any

from ollama_tw.cli.client import Client
from ollama_tw.cli.progress import Progress
from ollama_tw.errors import OllamaError


def load(client: Client, model: str, **fields: Any) -> None:
    """Load ``model`` with an empty request, which has ``fields`` besides; raises OllamaError."""
    with Progress() as progress:
        progress.spinner("")
        try:
            for _ in client.stream("/api/generate", {"model": model, **fields}):
                pass
        finally:
            progress.clear()


def load_if_allowed(client: Client, model: str, **fields: Any) -> None:
    """Load ``model`` as :func:`load` does, unless the API key may run models only: the first run loads it."""
    try:
        load(client, model, **fields)
    except OllamaError as error:
        if error.status != http.client.FORBIDDEN:
            raise


def unload(client: Client, model: str) -> None:
    """Unload ``model``; raises OllamaError, whose text contains "not found" if there is none."""
    load(client, model, keep_alive=0)
