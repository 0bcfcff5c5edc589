"""``ollama import``: makes models of GGUF files and folders, by hard links where the file system allows."""

import os
from pathlib import Path

import click

from ollama_tw.cli.client import Client, connected
from ollama_tw.cli.command import Command, UsageError
from ollama_tw.cli.folder import MODELS, models_folder
from ollama_tw.cli.lookup import show
from ollama_tw.cli.model_files import ModelFiles, find_models
from ollama_tw.cli.progress import Progress
from ollama_tw.cli.transfers import create
from ollama_tw.cli.uploads import digest_of, upload
from ollama_tw.cli.variables import CLIENT
from ollama_tw.errors import OllamaError
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.modelfile.local import named
from ollama_tw.library.names import InvalidName, parse_name

_NOT_FOUND = 404


@click.command(
    "import", cls=Command, variables=(*CLIENT, MODELS), short_help="Make models of GGUF files and folders"
)
@click.argument(
    "paths", nargs=-1, required=True, metavar="FILE.gguf...|FOLDER", type=click.Path(path_type=Path)
)
@click.option("--name", default="", help="Name of the model (default: that of its file)")
@click.option("--copy", is_flag=True, help="Copy the files instead of linking them")
@click.pass_context
def command(ctx: click.Context, paths: tuple[Path, ...], name: str, copy: bool) -> None:
    """Make a model of each GGUF file, or of each model in a FOLDER and the folders below it.

    Shards of one model, and a projector (mmproj) beside it, belong together. A file on the disk of the
    server's models is linked, not copied: it must not be changed afterwards.
    """
    models = find_models(paths)
    if name:
        models = [_renamed(models, name)]
    client = connected()
    failed = False
    for model in models:
        try:
            outcome = _import(client, model, may_link=not copy)
        except (OllamaError, OSError) as error:
            if len(models) == 1:
                raise
            reason = error.message if isinstance(error, OllamaError) else error.strerror or str(error)
            click.echo(f"Error: {model.files[0]}: {reason}", err=True)
            failed = True
        else:
            click.echo(f"imported '{model.name}' ({outcome})")
    ctx.exit(1 if failed else 0)


def _renamed(models: list[ModelFiles], name: str) -> ModelFiles:
    try:
        parse_name(name)
    except InvalidName as error:
        raise UsageError(f"invalid model name: {name}") from error
    if len(models) > 1:
        raise UsageError(f"--name is for one model, and {len(models)} were found")
    return ModelFiles(name, models[0].files)


def _import(client: Client, model: ModelFiles, *, may_link: bool) -> str:
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
    create(client, {"model": model.name, "files": files})
    return next((how for how in ("copied", "linked") if how in placed), "files already there")


def _require_free_name(client: Client, name: str, digest: str) -> None:
    """Raise OllamaError if the server has another model of that name."""
    try:
        source = show(client, name).get("modelfile", "")
    except OllamaError as error:
        if error.status == _NOT_FOUND:
            return
        raise
    if digest.removeprefix("sha256:") not in source:
        raise OllamaError(0, f"there is another model '{name}': remove it, or give this one another --name")


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
