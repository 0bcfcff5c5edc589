"""The server's address, proxies, and the way to the registry. Blocking."""

import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from ollama_tw.cli.client import Client, Unreachable, proxy_of
from ollama_tw.cli.doctor.findings import Finding
from ollama_tw.cli.local import is_local
from ollama_tw.config.host import Endpoint
from ollama_tw.errors import OllamaError, reason_of
from ollama_tw.library.names import DEFAULT_HOST

_SECONDS = 5.0


def server(client: Client, endpoint: Endpoint) -> Iterator[Finding]:
    """Report what answers at the address of the server."""
    try:
        client.check()
        version = (client.call("GET", "/api/version") or {}).get("version")
    except Unreachable:
        yield _nothing_listens(client.url, endpoint)
        return
    except OllamaError as error:
        yield Finding("problem", "server", error.message, _remedy(error, endpoint))
        return
    if not version:
        yield Finding("problem", "server", f"{client.url} is not an Ollama server", _remedy(None, endpoint))
        return
    yield Finding("ok", "server", f"{client.url} answers, version {version}")


def proxies(endpoint: Endpoint) -> Iterator[Finding]:
    """Report proxies that cannot be reached, or that stand between the commands and the server."""
    found = urllib.request.getproxies_environment()
    for scheme in ("http", "https"):
        if scheme not in found:
            continue
        url = urlsplit(found[scheme] if "://" in found[scheme] else f"http://{found[scheme]}")
        name = f"{scheme.upper()}_PROXY"
        try:
            address = (url.hostname or "", url.port or 80)
            socket.create_connection(address, _SECONDS).close()
        except (OSError, ValueError) as error:
            reason = reason_of(error)
            text = f"{name}: the proxy {url.hostname} cannot be reached: {reason}"
            yield Finding("problem", "proxy", text, f"correct or unset {name}")
        else:
            yield Finding("ok", "proxy", f"{name} is {address[0]}:{address[1]}")
    target = urlsplit(endpoint.url)
    if proxy_of(target) is not None:
        yield Finding(
            "warning",
            "proxy",
            f"the commands reach the server {endpoint.host} through a proxy",
            f"add {endpoint.host} to NO_PROXY unless that is meant",
        )


def registry(host: str = DEFAULT_HOST) -> Iterator[Finding]:
    """Report whether models can be pulled from the default registry."""
    request = urllib.request.Request(f"https://{host}/v2/", method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_SECONDS).close()  # noqa: S310 - the scheme is fixed
    except urllib.error.HTTPError:
        pass  # an answer, too
    except (OSError, http.client.HTTPException) as error:
        text = reason_of(error)
        yield Finding(
            "warning",
            "registry",
            f"{host} cannot be reached, so that models cannot be pulled from it: {text}",
            "set HTTPS_PROXY if this network has a proxy, or import model files: ollama import FILE.gguf",
        )
        return
    yield Finding("ok", "registry", f"{host} answers")


def _nothing_listens(url: str, endpoint: Endpoint) -> Finding:
    if is_local(endpoint):
        return Finding("warning", "server", f"no server listens at {url}", "start it with: ollama serve")
    return Finding(
        "problem",
        "server",
        f"no server listens at {url}",
        "start it on that machine with OLLAMA_HOST=0.0.0.0, or correct OLLAMA_HOST here",
    )


def _remedy(error: OllamaError | None, endpoint: Endpoint) -> str:
    if error is not None and error.status == http.client.UNAUTHORIZED:
        return "set OLLAMA_API_KEY to a key of the server"
    if not is_local(endpoint):
        return "correct OLLAMA_HOST, or check the network, the proxy and the firewall"
    another = f"OLLAMA_HOST={endpoint.host or '127.0.0.1'}:{endpoint.port + 1}"
    return f"another program has the port {endpoint.port}: stop it, or set {another} for server and commands"
