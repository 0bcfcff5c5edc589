"""The model of ``ollama run``: its description, after a download if the server lacks it.

Source: ollama: cmd/cmd.go, RunHandler.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ollama_tw.cli.client import Client
from ollama_tw.cli.transfers import pull
from ollama_tw.errors import OllamaError
from ollama_tw.library.names import (
    DEFAULT_HOST,
    InvalidName,
    ReferenceSource,
    parse_name,
    split_source,
    stub_name,
)

_NOT_FOUND = 404
_MISSING = "file does not exist"


@dataclass(frozen=True)
class Found:
    """A model and the reply of ``/api/show`` for it."""

    name: str
    shown: dict[str, Any]

    def can(self, capability: str) -> bool:
        """Return whether the model has a capability."""
        return capability in (self.shown.get("capabilities") or ())

    @property
    def takes_files(self) -> bool:
        """True if a prompt may have images or audio."""
        return self.can("vision") or self.can("audio")


def find(client: Client, model: str, *, insecure: bool, confirm: Callable[[str], bool] | None) -> Found:
    """Return the model, pulled if the server lacks it; raises OllamaError.

    ``confirm`` asks the user a question; None without a terminal.
    """
    is_cloud = split_source(model)[1] is ReferenceSource.CLOUD
    if is_cloud:
        _pull_stub(client, model)
    try:
        return Found(model, show(client, model))
    except OllamaError as error:
        if error.status != _NOT_FOUND or is_cloud:
            raise
    try:
        pull(client, model, insecure=insecure)
    except OllamaError as error:
        if _MISSING not in error.message or insecure or not _is_bare(model):
            raise
        cloud = f"{model}:cloud"
        if not _exists(client, cloud):
            raise
        if confirm is None:
            hint = f'"{cloud}" is available as a cloud model. Try:\n  ollama run {cloud}'
            raise OllamaError(error.status, f"{error.message}\n\n{hint}") from error
        if not confirm(f'Did you mean "{cloud}"?'):
            raise
        return find(client, cloud, insecure=insecure, confirm=None)
    return Found(model, show(client, model))


def show(client: Client, model: str) -> dict[str, Any]:
    """Return the reply of ``/api/show`` for ``model``."""
    shown: dict[str, Any] = client.call("POST", "/api/show", {"model": model}) or {}
    return shown


def _pull_stub(client: Client, model: str) -> None:
    """Pull the stub of a cloud model that is not listed yet; the model runs without it, too."""
    try:
        listed = (client.call("GET", "/api/tags") or {}).get("models") or []
        if stub_name(model) not in [entry.get("name") for entry in listed]:
            pull(client, model, report=lambda record: None)
    except OllamaError:
        pass


def _is_bare(model: str) -> bool:
    """Return whether ``model`` is a name of the default registry without a tag."""
    try:
        name = parse_name(model)
    except InvalidName:
        return False
    return name.host == DEFAULT_HOST and ":" not in model.rpartition("/")[2]


def _exists(client: Client, model: str) -> bool:
    try:
        show(client, model)
    except OllamaError:
        return False
    return True
