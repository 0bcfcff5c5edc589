"""``ollama import``: makes models of GGUF files and folders, by hard links where the file system allows."""

from pathlib import Path

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, UsageError
from ollama_tw.cli.folder import MODELS
from ollama_tw.cli.importing import import_models
from ollama_tw.cli.model_files import ModelFiles, find_models
from ollama_tw.cli.variables import CLIENT
from ollama_tw.library.names import InvalidName, parse_name


@click.command("import", cls=Command, variables=(*CLIENT, MODELS))
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
    ctx.exit(0 if import_models(connected(), models, may_link=not copy) else 1)


def _renamed(models: list[ModelFiles], name: str) -> ModelFiles:
    try:
        parse_name(name)
    except InvalidName as error:
        raise UsageError(f"invalid model name: {name}") from error
    if len(models) > 1:
        raise UsageError(f"--name is for one model, and {len(models)} were found")
    return ModelFiles(name, models[0].files)
