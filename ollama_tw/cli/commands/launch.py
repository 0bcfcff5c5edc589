"""``ollama launch``: sets up a program of others for this server, and starts it.

Source: ollama: cmd/launch/launch.go, LaunchCmd.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path

import click

from ollama_tw.cli.client import Client, connected
from ollama_tw.cli.command import Command, UsageError, complete_models
from ollama_tw.cli.launch.edits import Edit
from ollama_tw.cli.launch.record import Change, Record, write_changes
from ollama_tw.cli.launch.tools import TOOLS, Target, Tool
from ollama_tw.cli.local import ANY_ADDRESS
from ollama_tw.cli.lookup import show
from ollama_tw.cli.tables import table
from ollama_tw.cli.transfers import pull
from ollama_tw.cli.variables import API_KEY, CLIENT
from ollama_tw.config.host import DEFAULT_HOST
from ollama_tw.config.settings import HOST
from ollama_tw.errors import OllamaError
from ollama_tw.posix import become

_NOT_FOUND = 404
_EXTRA = "ollama.launch.extra"
_LONG_CONTEXT = 32768


class _Launch(Command):
    """A command whose arguments after ``--`` are another program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set the arguments of the program aside."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_EXTRA] = args[at + 1 :]
        return super().parse_args(ctx, args[:at])


def _tools(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [tool.name for tool in TOOLS if tool.name.startswith(incomplete)]


@click.command("launch", cls=_Launch, variables=CLIENT)
@click.argument("integration", nargs=-1, metavar="[INTEGRATION] [-- [EXTRA_ARGS...]]", shell_complete=_tools)
@click.option("--model", default="", shell_complete=complete_models, help="Model to use")
@click.option("--config", "only_config", is_flag=True, help="Configure without launching")
@click.option("--restore", is_flag=True, help="Undo the configuration")
@click.option("-y", "--yes", is_flag=True, help="Automatically answer yes to confirmation prompts")
@click.pass_context
def command(
    ctx: click.Context, integration: tuple[str, ...], model: str, only_config: bool, restore: bool, yes: bool
) -> None:
    """Set up a program to use this server, and start it.

    The programs are claude, codex, opencode, cline, continue, aider and open-webui. What is written to
    their files is shown before, and --restore undoes it. Without arguments the programs are listed.
    """
    extra: list[str] = ctx.meta[_EXTRA]
    if len(integration) > 1:
        words = " ".join(integration[1:])
        raise UsageError(
            f"unexpected arguments: [{words}]\nUse '--' to pass extra arguments to the integration"
        )
    record = Record(Path.home() / ".ollama")
    if not integration:
        if model or only_config or restore or yes or extra:
            raise UsageError(
                "flags and extra args require an integration name, for example: "
                "'ollama launch claude --model qwen3.5'"
            )
        _list(TOOLS, record)
        return
    tool = next((one for one in TOOLS if one.name == integration[0].lower()), None)
    if tool is None:
        raise UsageError(f"unknown integration: {integration[0]}")
    if restore:
        if model or only_config or extra:
            raise UsageError("--restore cannot be combined with --model, --config, or extra args")
        _restore(tool, record, yes)
        return
    program = None if only_config else _find(tool)
    client = connected()
    target = Target(_address(), _model(tool, client, record, model, yes), _key(), Path.home())
    edits = tool.all_edits(target) if only_config else tool.edits(target)
    if edits:
        _configure(tool, target, record, edits, yes)
    if program is None:
        _print_environment(tool, target, edits)
        return
    _warn_of_short_context(client, target.model)
    _start(program, [*tool.arguments(target), *extra], tool.environment(target))


def _list(tools: Sequence[Tool], record: Record) -> None:
    rows = [
        (
            tool.name,
            tool.title,
            "yes" if _path(tool) else f"no: {tool.installation}",
            record.model(tool.name) if record.is_configured(tool.name) else "",
        )
        for tool in tools
    ]
    click.echo(table(rows, header=("NAME", "PROGRAM", "INSTALLED", "CONFIGURED"), cell_width=60), nl=False)


def _path(tool: Tool) -> str | None:
    """Return the path of a program, None if it is not installed."""
    folders = [str(Path.home() / folder) for folder in tool.folders]
    return shutil.which(tool.program) or shutil.which(tool.program, path=os.pathsep.join(folders))


def _find(tool: Tool) -> str:
    path = _path(tool)
    if path is None:
        raise UsageError(f"{tool.name} is not installed, install with: {tool.installation}")
    return path


def _address() -> str:
    """Return the address at which other programs of this machine reach the server."""
    endpoint = HOST.read(os.environ, lambda text: None)
    if endpoint.host in ANY_ADDRESS:
        endpoint = replace(endpoint, host=DEFAULT_HOST)
    return endpoint.url


def _key() -> str:
    return API_KEY.read(os.environ, lambda text: None)


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _model(tool: Tool, client: Client, record: Record, model: str, yes: bool) -> str:
    """Return the model to use, which the server has, by the option or the user's choice."""
    if not model and not tool.needs_model:
        return ""
    if not model:
        if yes or not _is_interactive():
            raise UsageError(f"launch of {tool.name} without questions requires --model <model>")
        model = _choice(client, record.model(tool.name))
    try:
        shown = show(client, model)
    except OllamaError as error:
        if error.status != _NOT_FOUND:
            raise
        if not yes and not (_is_interactive() and click.confirm(f"Pull '{model}'?", err=True)):
            raise UsageError(f"model '{model}' not found: pull it with 'ollama pull {model}'") from error
        pull(client, model)
        shown = show(client, model)
    if tool.needs_tools and "tools" not in (shown.get("capabilities") or ()):
        click.echo(f"Warning: '{model}' cannot call tools, which {tool.title} needs", err=True)
    return model


def _choice(client: Client, last: str) -> str:
    """Ask for one of the models of the server."""
    listed = (client.call("GET", "/api/tags") or {}).get("models") or []
    names: list[str] = [
        model["name"] for model in listed if "embedding" not in (model.get("capabilities") or ())
    ]
    if not names:
        raise UsageError(
            "the server has no models: pull one with 'ollama pull MODEL', or name it with --model"
        )
    for number, name in enumerate(names, 1):
        click.echo(f"{number:>3}  {name}", err=True)
    default = names.index(last) + 1 if last in names else 1
    chosen: int = click.prompt("Model", default=default, type=click.IntRange(1, len(names)), err=True)
    return names[chosen - 1]


def _configure(tool: Tool, target: Target, record: Record, edits: Sequence[Edit], yes: bool) -> None:
    """Show and write the changes to the files of a program; raises UsageError if the user declines."""
    earlier = _recorded_edits(tool, record)
    changes = [change for change in record.changes(tool.name, edits, earlier) if change.is_needed]
    if not changes:
        return
    _confirm(changes, yes)
    record.note(tool.name, target.model, target.url, changes)
    write_changes(changes)
    for change in changes:
        kept = record.original_file(tool.name, change.path)
        click.echo(f"wrote {change.path}" + (f", the original is in {kept}" if kept else ""), err=True)
    click.echo(f"'ollama launch {tool.name} --restore' undoes this", err=True)


def _restore(tool: Tool, record: Record, yes: bool) -> None:
    if not record.is_configured(tool.name):
        raise UsageError(f"there is nothing to restore: 'ollama launch' changed no file of {tool.name}")
    edits = _recorded_edits(tool, record)
    changes = [change for change in record.undoing(tool.name, edits) if change.is_needed]
    _confirm(changes, yes)
    write_changes(changes)
    record.forget(tool.name)
    for change in changes:
        click.echo(f"{'removed' if change.after is None else 'restored'} {change.path}", err=True)


def _recorded_edits(tool: Tool, record: Record) -> Sequence[Edit]:
    """Return the edits with which the files of a program were changed last, none if they were not."""
    if not record.is_configured(tool.name):
        return ()
    return tool.all_edits(Target(record.url(tool.name), record.model(tool.name), _key(), Path.home()))


def _confirm(changes: Sequence[Change], yes: bool) -> None:
    """Show the changes and ask whether to make them; raises UsageError if not."""
    for change in changes:
        before, after = (change.before or "").splitlines(), (change.after or "").splitlines()
        name = str(change.path)
        click.echo("\n".join(unified_diff(before, after, name, name, lineterm="")), err=True)
    if yes or not changes:
        return
    if not _is_interactive():
        raise UsageError("nothing was changed: confirm the changes with --yes")
    if not click.confirm("Make these changes?", err=True):
        raise UsageError("nothing was changed")


def _print_environment(tool: Tool, target: Target, edits: Sequence[Edit]) -> None:
    """Print what a program without a file for it reads from its environment."""
    if edits:
        return
    click.echo(f"{tool.title} reads its environment: set", err=True)
    for name, value in tool.environment(target).items():
        click.echo(f"{name}={value}")


def _warn_of_short_context(client: Client, model: str) -> None:
    """Print how to serve longer contexts if the loaded model has a short one."""
    loaded = (client.call("GET", "/api/ps") or {}).get("models") or []
    lengths = [one.get("context_length") or 0 for one in loaded if one.get("name") == model]
    if lengths and lengths[0] < _LONG_CONTEXT:
        click.echo(
            f"Warning: '{model}' is loaded with a context of {lengths[0]} tokens, and agents need more: "
            f"start the server with OLLAMA_CONTEXT_LENGTH={_LONG_CONTEXT} or more",
            err=True,
        )


def _start(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Become the program; on Windows, run it and exit with its status."""
    sys.stdout.flush()
    become(program, arguments, {**os.environ, **environment})
