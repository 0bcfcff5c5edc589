"""Arguments of the command line that name servers."""

import argparse
from urllib.parse import urlsplit

from benchmarks.dialects import DIALECTS
from benchmarks.exchange import Server


def add_servers(parser: argparse.ArgumentParser) -> None:
    """Add ``--url`` and ``--model``."""
    parser.add_argument(
        "--url",
        action="append",
        required=True,
        metavar="[NAME:]DIALECT=URL[,pid=N][,model=NAME]",
        help=f"a server; dialects: {', '.join(DIALECTS)}; ratios compare the first with each other one",
    )
    parser.add_argument("--model", default="default", help="name of the model, unless --url gives one")


def parse_servers(parser: argparse.ArgumentParser, given: argparse.Namespace) -> list[Server]:
    """Return the servers of the command line. Exits with an error if one is invalid or two have one name."""
    try:
        servers = [parse_url(value, given.model) for value in given.url]
    except ValueError as error:
        parser.error(str(error))
    if len({server.name for server in servers}) < len(servers):
        parser.error("two servers have the same name: name each of them, NAME:DIALECT=URL")
    return servers


def parse_url(value: str, model: str) -> Server:
    """Parse `[NAME:]DIALECT=URL[,pid=N][,model=NAME]`. Raises ValueError with a text for the user."""
    label, _, rest = value.partition("=")
    name, _, dialect = label.rpartition(":")
    if dialect not in DIALECTS:
        raise ValueError(f"{value}: unknown dialect {dialect!r}, not one of {', '.join(DIALECTS)}")
    url, *extras = rest.split(",")
    if urlsplit(url).scheme != "http" or not urlsplit(url).hostname:
        raise ValueError(f"{value}: not an http:// address")
    pid = None
    for extra in extras:
        key, _, word = extra.partition("=")
        if key == "pid":
            pid = int(word)
        elif key == "model":
            model = word
        else:
            raise ValueError(f"{value}: unknown {key!r}, not pid or model")
    return Server(name or dialect, dialect, url, model, pid)
