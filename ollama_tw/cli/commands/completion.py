"""``ollama completion``: prints the script that completes command lines in a shell."""

import click

from ollama_tw.cli.command import Command, UsageError

_SHELLS = ("bash", "zsh", "fish")


def _shell(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value not in _SHELLS:
        raise UsageError(f'no completion for the shell "{value}": choose bash, zsh or fish')
    return value


def _shells(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [shell for shell in _SHELLS if shell.startswith(incomplete)]


@click.command("completion", cls=Command)
@click.argument("shell", metavar="bash|zsh|fish", callback=_shell, shell_complete=_shells)
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and model names in a shell.

    Load it in the shell's start-up file: `source <(ollama completion bash)`, the same with zsh after
    `compinit`, or `ollama completion fish | source`.
    """
    from ollama_tw.cli.completion import script

    click.echo(script(shell, ctx.find_root().command))
