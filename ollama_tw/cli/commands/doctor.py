"""``ollama doctor``: checks this machine and installation, with a remedy for each fault."""

import os
import sys
from dataclasses import asdict

import click

from ollama_tw.cli.command import Command, json_option, print_json
from ollama_tw.cli.folder import MODELS
from ollama_tw.cli.terminal import is_dumb, size_of
from ollama_tw.cli.variables import CLIENT

_PIPE_COLUMNS = 100


@click.command("doctor", cls=Command, variables=(*CLIENT, MODELS))
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check devices, threads, disk, address, proxy and permissions; print what to do about each fault.

    The environment is that of this command: run it as the server is run. The exit status is 1 if there is
    a problem that keeps the server or a command from working.
    """
    from ollama_tw.cli.doctor.checks import findings
    from ollama_tw.cli.doctor.findings import lines

    terminal = sys.stdout.isatty()
    is_coloured = terminal and not os.environ.get("NO_COLOR") and not is_dumb()
    columns = size_of(sys.stdout)[0] if terminal else _PIPE_COLUMNS
    has_problem = False
    for finding in findings(os.environ):
        has_problem |= finding.level == "problem"
        if as_json:
            print_json(asdict(finding))
            continue
        for colour, text in lines(finding, columns):
            word, space, rest = text.partition(" ")
            click.echo((click.style(word, fg=colour) if colour and is_coloured else word) + space + rest)
    ctx.exit(1 if has_problem else 0)
