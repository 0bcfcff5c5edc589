"""``ollama fit``: how a model would fit on this machine."""

import json
import subprocess
from typing import TYPE_CHECKING, Any

import click

from ollama_tw.cli.command import Command, UsageError, complete_models, json_option, print_json, whole_number
from ollama_tw.cli.folder import MODELS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_TIMEOUT_SECONDS = 120.0


def _models_and_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    return [*complete_models(ctx, param, incomplete), CompletionItem(incomplete, type="file")]


def _count(ctx: click.Context, param: click.Parameter, value: str | None) -> int:
    if value is None:
        return 0
    number = whole_number(ctx, param, value)
    if number < 1:
        raise UsageError(f'invalid argument "{value}" for "{param.opts[0]}" flag: it must be at least 1')
    return number


@click.command("fit", cls=Command, variables=(MODELS,))
@click.argument("model", metavar="MODEL|FILE.gguf", shell_complete=_models_and_files)
@click.option("--context", callback=_count, metavar="N", help="Tokens of context of each request")
@click.option("--parallel", callback=_count, metavar="N", help="Requests at the same time")
@click.option("--insecure", is_flag=True, help="Use an insecure registry")
@json_option
@click.pass_context
def command(
    ctx: click.Context, model: str, context: int, parallel: int, insecure: bool, as_json: bool
) -> None:
    """Show the memory that MODEL takes here, where its layers go, and about how fast it is.

    Only the header of the file is read, from the registry if the model is not on this machine. The memory is
    what is free now. The exit status is 1 if the model does not fit.
    """
    from ollama_tw.cli.fitting import fit_text
    from ollama_tw.cli.model_source import model_source

    with model_source(model, insecure=insecure) as source:
        while True:
            question = {
                "path": str(source.path),
                "have": source.have,
                "extra": source.extra,
                "context": context or source.context,
                "parallel": parallel,
            }
            answer = _ask(question)
            if not answer.get("incomplete"):
                break
            if not source.more():
                raise UsageError(f"the header of '{model}' is not complete")
    if error := answer.get("error"):
        raise UsageError(f"{model}: {error}")
    if as_json:
        print_json(answer)
    else:
        click.echo(fit_text(answer), nl=False)
    ctx.exit(1 if answer["reason"] else 0)


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of a child process, which reads the header and lists the devices."""
    from ollama_tw.cli.child import last_line, run_module

    try:
        done = run_module("ollama_tw.engine.fit", json.dumps(question), timeout=_TIMEOUT_SECONDS)
        answer: dict[str, Any] = json.loads(last_line(done.stdout))
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"the devices were not listed within {_TIMEOUT_SECONDS:g} seconds") from error
    except ValueError as error:
        reason = last_line(done.stderr)
        raise UsageError(f"the model could not be examined: {reason}: run ollama doctor") from error
    return answer
