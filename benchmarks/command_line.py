"""Arguments of the command line that name servers."""

import argparse

from ollama_tw.cli.bench import servers
from ollama_tw.cli.bench.dialects import DIALECTS
from ollama_tw.cli.bench.exchange import Server


def add_servers(parser: argparse.ArgumentParser) -> None:
    """Add ``--url`` and ``--model``."""
    parser.add_argument(
        "--url",
        action="append",
        required=True,
        metavar="[NAME:]DIALECT=URL[,pid=N][,model=NAME][,key=VARIABLE][,restart=COMMAND]",
        help=f"a server; dialects: {', '.join(DIALECTS)}; ratios compare the first with each other one",
    )
    parser.add_argument("--model", default="default", help="name of the model, unless --url gives one")


def parse_servers(parser: argparse.ArgumentParser, given: argparse.Namespace) -> list[Server]:
    """Return the servers of the command line. Exits with an error if one is invalid or two have one name."""
    try:
        return servers.parse_servers(given.url, given.model)
    except ValueError as error:
        parser.error(str(error))
