"""``ollama pull``: downloads a model from a registry to the server, or imports a file."""

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, json_option, model_argument, print_json
from ollama_tw.cli.paths import path_of
from ollama_tw.cli.transfers import pull
from ollama_tw.cli.variables import CLIENT


@click.command("pull", cls=Command, variables=CLIENT)
@model_argument("model")
@click.option("--insecure", is_flag=True, help="Use an insecure registry")
@json_option
@click.pass_context
def command(ctx: click.Context, model: str, insecure: bool, as_json: bool) -> None:
    """Download MODEL from its registry. A download that was interrupted is continued.

    If MODEL is the path of a GGUF file or of a folder of models (./FILE.gguf), it is imported.
    """
    report = print_json if as_json else None
    path = path_of(model)
    if path is None:
        pull(connected(), model, insecure=insecure, report=report)
        return
    from ollama_tw.cli.importing import import_models
    from ollama_tw.cli.model_files import find_models

    ctx.exit(0 if import_models(connected(), find_models([path]), report=report) else 1)
