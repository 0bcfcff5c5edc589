"""Servers as a command line names them."""

import os
from collections.abc import Iterable
from urllib.parse import urlsplit

from ollama_tw.cli.bench.dialects import DIALECTS
from ollama_tw.cli.bench.exchange import Server
from ollama_tw.cli.client import Client
from ollama_tw.config.host import Endpoint
from ollama_tw.errors import OllamaError

_NOT_JSON = "something other than JSON"


def parse_servers(values: Iterable[str], model: str) -> list[Server]:
    """Return the servers; see :func:`parse_url`. Raises ValueError also if two have one name."""
    servers = [parse_url(value, model) for value in values]
    if len({server.name for server in servers}) < len(servers):
        raise ValueError("two servers have the same name: name each of them, NAME:DIALECT=URL")
    return servers


def parse_url(value: str, model: str) -> Server:
    """Parse `[NAME:]DIALECT=URL[,pid=N][,model=NAME][,key=VARIABLE][,restart=COMMAND]`.

    ``key`` names the environment variable with the key of the server, ``restart`` is a shell command without
    commas. Raises ValueError with a text for the
    user.
    """
    label, _, rest = value.partition("=")
    name, _, dialect = label.rpartition(":")
    if dialect not in DIALECTS:
        raise ValueError(f"{value}: unknown dialect {dialect!r}, not one of {', '.join(DIALECTS)}")
    url, *extras = rest.split(",")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ValueError(f"{value}: not an http:// or https:// address")
    pid, api_key, restart = None, "", ""
    for extra in extras:
        key, _, word = extra.partition("=")
        if key == "pid":
            if not word.isdecimal():
                raise ValueError(f"{value}: {word!r} is not a process ID")
            pid = int(word)
        elif key == "model":
            model = word
        elif key == "key":
            api_key = os.environ.get(word, "")
            if not api_key:
                raise ValueError(f"{value}: the environment variable {word} is not set")
        elif key == "restart":
            restart = word
        else:
            raise ValueError(f"{value}: unknown {key!r}, not pid, model, key or restart")
    return Server(name or dialect, dialect, _root(url), model, pid, api_key, restart)


def detected(value: str) -> str:
    """Return ``value`` with a dialect, which a URL without one gets by what its server answers. Blocking.

    Its name is then the host and the port. Raises ValueError if nothing answers.
    """
    if not value.startswith(("http://", "https://")):
        return value
    url = _root(value.split(",")[0])
    try:
        reply = Client(Endpoint.parse(url, lambda text: None)).call("GET", "/api/version")
    except OllamaError as error:
        if error.status == 0 and not error.message.endswith(_NOT_JSON):
            raise ValueError(f"{url}: {error.message}") from error
        reply = None
    is_ollama = isinstance(reply, dict) and "version" in reply
    return f"{urlsplit(url).netloc}:{'ollama' if is_ollama else 'openai'}={value}"


def _root(url: str) -> str:
    """Return the address of a server whose base URL, as OpenAI's clients have it, may end in ``/v1``."""
    return url.rstrip("/").removesuffix("/v1")
