"""Loading and unloading a model on the server, with a spinner.

Source: ollama: cmd/cmd.go, loadOrUnloadModel.
"""

from typing import Any

from ollama_tw.cli.client import Client
from ollama_tw.cli.progress import Progress


def load(client: Client, model: str, **fields: Any) -> None:
    """Load ``model`` with an empty request, which has ``fields`` besides; raises OllamaError."""
    with Progress() as progress:
        progress.spinner("")
        try:
            for _ in client.stream("/api/generate", {"model": model, **fields}):
                pass
        finally:
            progress.clear()


def unload(client: Client, model: str) -> None:
    """Unload ``model``; raises OllamaError, whose text contains "not found" if there is none."""
    load(client, model, keep_alive=0)
