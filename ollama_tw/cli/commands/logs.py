"""``ollama logs``: prints the log of the server of this machine."""

import os
import shutil
import subprocess
import sys

import click

from ollama_tw.cli.command import Command, UsageError, whole_number
from ollama_tw.cli.local import is_local, server_log
from ollama_tw.config.settings import HOST

_UNIT = "ollama"


def _count(ctx: click.Context, param: click.Parameter, value: str) -> int:
    number = whole_number(ctx, param, value)
    if number < 0:
        raise UsageError(f'invalid argument "{value}" for "{param.opts[0]}" flag: it must not be negative')
    return number


@click.command("logs", cls=Command, variables=(HOST,))
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they are written")
@click.option(
    "-n", "--lines", "count", default="100", callback=_count, help="Number of last lines (default: 100)"
)
@click.pass_context
def command(ctx: click.Context, follow: bool, count: int) -> None:
    """Print the last lines of the server's log.

    It is in the journal if systemd runs the server, else in ~/.ollama/logs/server.log, to which servers
    write that `ollama run` has started, and all servers on macOS.
    """
    from ollama_tw.cli.tail import follow_file, last_lines

    endpoint = HOST.read(os.environ, lambda text: None)
    if not is_local(endpoint):
        raise UsageError(f"the server {endpoint.url} is on another machine: run 'ollama logs' there")
    scope = _journal()
    if scope is not None:
        ctx.exit(_print_journal(scope, count, follow))
    path = server_log()
    if not path.is_file():
        raise UsageError(
            f"no log in {path} and none of systemd: the server writes it where 'ollama serve' was started"
        )
    output = sys.stdout.buffer
    with path.open("rb") as file:
        output.write(last_lines(file, count))
        output.flush()
        for data in follow_file(file, path) if follow else ():
            output.write(data)
            output.flush()


def _journal() -> list[str] | None:
    """Return the options of the journal with the server's log, None if systemd does not run the server."""
    if shutil.which("systemctl") is None or shutil.which("journalctl") is None:
        return None
    for options in ([], ["--user"]):
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["systemctl", *options, "is-active", "--quiet", _UNIT],  # noqa: S607 - found by the user's PATH
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return options
    return None


def _print_journal(options: list[str], count: int, follow: bool) -> int:
    """Run ``journalctl`` and return its exit status."""
    arguments = [*options, "--unit", _UNIT, "--lines", str(count), "--no-pager", "--output", "cat"]
    done = subprocess.run(  # noqa: S603 - fixed arguments
        ["journalctl", *arguments, *(["--follow"] if follow else [])],  # noqa: S607 - as above
        check=False,
    )
    return done.returncode
