"""Models made of files of this machine, by hard links where the file system allows."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from ollama_tw.cli.client import Client
from ollama_tw.cli.command import UsageError
from ollama_tw.cli.folder import models_folder
from ollama_tw.cli.lookup import show
from ollama_tw.cli.model_files import ModelFiles, find_models
from ollama_tw.cli.progress import Progress
from ollama_tw.cli.transfers import Report, create
from ollama_tw.cli.uploads import digest_of, upload
from ollama_tw.errors import OllamaError, reason_of
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.modelfile.local import named

_NOT_FOUND = 404


def import_one(client: Client, path: Path) -> str:
    """Create the only model in ``path``; return its name. Raises UsageError if there are several."""
    models = find_models([path])
    if len(models) > 1:
        raise UsageError(f"{path} has {len(models)} models: name the file of one")
    import_models(client, models, report=lambda record: None)
    return models[0].name


def import_models(
    client: Client, models: Sequence[ModelFiles], *, may_link: bool = True, report: Report | None = None
) -> bool:
    """Create the models and print their names; ``report`` gets the records of their creation instead.

    ``may_link`` permits hard links to the files. The error of one of several models is printed, and False
    returned at the end; that of a single one is raised: OllamaError, OSError.
    """
    succeeded = True
    for model in models:
        try:
            outcome = _import(client, model, may_link, report)
        except (OllamaError, OSError) as error:
            if len(models) == 1:
                raise
            click.echo(f"Error: {model.files[0]}: {reason_of(error)}", err=True)
            succeeded = False
        else:
            if report is None:
                click.echo(f"imported '{model.name}' ({outcome})")
    return succeeded


def _import(client: Client, model: ModelFiles, may_link: bool, report: Report | None) -> str:
    """Create the model; return how its files came to the server. Raises OllamaError, OSError."""
    placed = []
    with Progress() as progress:
        progress.spinner(f"hashing {model.files[0].name}")
        digests = {path: digest_of(path) for path in model.files}
        progress.rest()
        _require_free_name(client, model.name, digests[model.files[0]])
        for path, digest in digests.items():
            placed.append(_place(client, progress, path, digest, may_link))
        progress.clear()
    files = {name: digests[path] for name, path in named(model.files).items()}
    create(client, {"model": model.name, "files": files}, report)
    return next((how for how in ("copied", "linked") if how in placed), "files already present")


def _require_free_name(client: Client, name: str, digest: str) -> None:
    """Raise OllamaError if the server has another model of that name."""
    try:
        source = show(client, name).get("modelfile", "")
    except OllamaError as error:
        if error.status == _NOT_FOUND:
            return
        raise
    if digest.removeprefix("sha256:") not in source:
        raise OllamaError(0, f"there is another model '{name}': remove it, or import this one with --name")


def _place(client: Client, progress: Progress, path: Path, digest: str, may_link: bool) -> str:
    """Make the file a blob of the server, by a link if it has its models on the same disk."""
    address = f"/api/blobs/{digest}"
    if client.has(address):
        return ""
    linked = _link(path, digest) if may_link else None
    if linked is not None:
        if client.has(address):
            return "linked"
        # The server has its models elsewhere.
        linked.unlink()
    upload(client, progress, digest, path)
    return "copied"


def _link(path: Path, digest: str) -> Path | None:
    """Link the file into the models directory of this machine; None if that is not possible."""
    try:
        blob = BlobStore(models_folder()).path(digest)
        os.link(path.resolve(), blob)
    except (UsageError, OSError):
        return None
    return blob
