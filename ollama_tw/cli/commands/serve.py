"""``ollama serve``: runs the server in the foreground until a signal stops it."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ollama_tw.cli.command import Command
from ollama_tw.config.declaration import SettingsError
from ollama_tw.config.settings import VARIABLES
from ollama_tw.configfile.load import Configuration, read_configuration
from ollama_tw.process.activation import inherited_sockets


@click.command("serve", cls=Command, variables=VARIABLES)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Start the Ollama server.

    It is configured by environment variables and a file (ollama config). SIGINT and SIGTERM stop it after the
    running requests are answered; a second signal stops it at once.
    """
    # Has to be called before Twisted is imported; see its docstring.
    sockets = inherited_sockets(os.environ, os.getpid())
    # The other commands need neither the server nor Twisted. While both are imported, a child process
    # lists the devices of llama.cpp.
    from ollama_tw.llama import discovery

    discovery.begin()
    with _no_garbage_collection():
        from twisted.logger import Logger

        from ollama_tw.process import logs
        from ollama_tw.server.daemon import run

    warnings: list[str] = []
    try:
        configuration = read_configuration(os.environ, warnings.append)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    logs.start(configuration.settings)
    log = Logger("ollama_tw.settings")
    for text in warnings:
        log.warn("{text}", text=text)

    def reread() -> Configuration:
        return read_configuration(os.environ, lambda text: log.warn("{text}", text=text))

    ctx.exit(run(configuration, reread, sockets))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Import modules without garbage collections, which would take a tenth of the time and find nothing.

    What was imported is left out of later collections, too.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
