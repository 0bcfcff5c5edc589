"""``ollama create``: creates a model on the server from a Modelfile and the files that it names."""

from pathlib import Path
from typing import Any

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, UsageError, json_option, model_argument, print_json
from ollama_tw.cli.transfers import create
from ollama_tw.cli.variables import CLIENT
from ollama_tw.library.names import InvalidName, parse_name

_MODELFILE = "Modelfile"


@click.command("create", cls=Command, variables=CLIENT)
@model_argument("model")
@click.option(
    "-f",
    "--file",
    "path",
    default=_MODELFILE,
    type=click.Path(),
    help='Name of the Modelfile (default "Modelfile")',
)
@click.option("-q", "--quantize", default="", help="Quantize model to this level (e.g. q4_K_M)")
@click.option("--draft-quantize", default="", help="Quantize the draft model to this level")
@click.option("--experimental", is_flag=True, help="Store safetensors as they are, for MLX, without a server")
@json_option
def command(
    model: str, path: str, quantize: str, draft_quantize: str, experimental: bool, as_json: bool
) -> None:
    """Create MODEL from a Modelfile, by default the file of that name, or the model files of this directory.

    The files that the Modelfile names are sent to the server unless it has them.
    """
    from ollama_tw.cli.uploads import local_model
    from ollama_tw.library.modelfile.parser import ModelfileError

    try:
        parse_name(model)
    except InvalidName as error:
        raise UsageError(f"invalid model name: {model}") from error
    if experimental:
        _create_of_tensors(model, Path(path), quantizes=bool(quantize or draft_quantize), as_json=as_json)
        return
    client = connected()
    try:
        fields: dict[str, Any] = local_model(
            client, Path(path), note=lambda text: click.echo(text, err=as_json)
        )
    except ModelfileError as error:
        raise UsageError(str(error)) from error
    levels = {"quantize": quantize, "draft_quantize": draft_quantize}
    fields |= {key: value for key, value in levels.items() if value}
    create(client, {"model": model, **fields}, print_json if as_json else None)


def _create_of_tensors(model: str, path: Path, *, quantizes: bool, as_json: bool) -> None:
    """Create a model of tensors in the models directory of this machine."""
    from ollama_tw.cli.tensor_models import create_tensors
    from ollama_tw.library.modelfile.parser import ModelfileError

    if quantizes:
        raise UsageError("quantizing for MLX is not supported: create the model without --quantize")
    try:
        create_tensors(model, path, print_json if as_json else None)
    except ModelfileError as error:
        raise UsageError(str(error)) from error
