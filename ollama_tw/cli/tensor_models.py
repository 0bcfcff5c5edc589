"""``ollama create --experimental``: a model of tensors, written to the models directory of this machine."""

import os
from pathlib import Path

import click

from ollama_tw.cli.command import UsageError
from ollama_tw.cli.local import is_local
from ollama_tw.cli.progress import Progress
from ollama_tw.cli.transfers import Report
from ollama_tw.config.declaration import SettingsError
from ollama_tw.config.settings import HOST, Settings
from ollama_tw.library.create.tensors import create_tensor_model
from ollama_tw.library.modelfile.local import expand, load_modelfile
from ollama_tw.library.modelfile.recipe import read_recipe
from ollama_tw.library.names import parse_name
from ollama_tw.library.store import Store


def create_tensors(model: str, path: Path, report: Report | None) -> None:
    """Create ``model`` from the Modelfile ``path``; ``report`` gets the records instead of the display.

    Raises UsageError, ModelfileError, OllamaError, OSError.
    """
    if not is_local(HOST.read(os.environ, lambda text: None)):
        raise UsageError("remote safetensor model creation not yet supported")
    try:
        root = Settings.read(os.environ, lambda text: None).models
    except SettingsError as error:
        raise UsageError(str(error)) from error
    instructions, directory = load_modelfile(path, working_directory=Path.cwd())
    recipe = read_recipe(instructions)
    if recipe.drafts:
        raise UsageError("DRAFT is not supported with --experimental")
    folder = expand(recipe.bases[-1], directory)
    for warning in recipe.warnings:
        click.echo(warning, err=report is not None)
    with Progress() as progress:

        def show(status: str) -> None:
            if report is not None:
                report({"status": status})
            else:
                progress.spinner(status)

        create_tensor_model(Store(root, prune=True), parse_name(model), folder, recipe.fields(), show)
        show("success")
