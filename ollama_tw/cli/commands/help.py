"""``ollama help``: prints the help of a command."""

import click

from ollama_tw.cli.command import Command


@click.command("help", cls=Command)
@click.argument("command", nargs=-1, metavar="[COMMAND]")
@click.pass_context
def command(ctx: click.Context, command: tuple[str, ...]) -> None:
    """Print the help of COMMAND, by default that of the program."""
    root = ctx.find_root()
    group = root.command
    assert isinstance(group, click.Group)  # noqa: S101 - for the type checker
    found = group.get_command(root, command[0]) if command else None
    if command and found is None:
        click.echo(f"Unknown help topic [{' '.join(f'`{word}`' for word in command)}]", err=True)
    if found is None:
        click.echo(root.get_help(), err=bool(command))
        return
    with click.Context(found, info_name=found.name, parent=root) as own:
        click.echo(found.get_help(own))
