"""HTTP client of the commands: JSON calls, streams of records, uploads. Blocking.

The standard library's client is imported in a fifth of the time that httpx takes. Each request has a
connection of its own, which the server can therefore not have closed while a user was typing.

Source: ollama: api/client.go.
"""

import http.client
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import SplitResult, unquote, urlsplit

from ollama_tw import OLLAMA_VERSION
from ollama_tw.cli.variables import API_KEY
from ollama_tw.config.host import Endpoint, is_loopback
from ollama_tw.config.settings import HOST
from ollama_tw.errors import OllamaError, reason_of

_CONNECT_SECONDS = 30.0
_READ_BYTES = 1 << 16
_MAX_ERROR_BYTES = 1 << 20
_UPLOAD_BYTES = 1 << 20

NOT_RUNNING = "could not connect to ollama server, run 'ollama serve' to start it"


class Unreachable(OllamaError):
    """No server listens at the address."""

    def __init__(self) -> None:
        super().__init__(0, NOT_RUNNING)


class Client:
    """Client of the server at ``endpoint``.

    ``api_key`` is sent as a bearer token unless it is empty. All methods raise OllamaError; its status is 0
    if there is no reply, and its details may contain ``signin_url``.
    """

    def __init__(self, endpoint: Endpoint, api_key: str = "") -> None:
        self.url = endpoint.url
        self._target = urlsplit(endpoint.url)
        self._proxy = proxy_of(self._target)
        self._headers = {
            "Accept": "application/json",
            "User-Agent": f"ollama/{OLLAMA_VERSION} Python",
        }
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    @classmethod
    def from_environment(cls) -> "Client":
        """Return the client of the server at ``OLLAMA_HOST``; print a warning about an invalid value."""

        def warn(text: str) -> None:
            print(f"Warning: {text}", file=sys.stderr)

        return cls(HOST.read(os.environ, warn), API_KEY.read(os.environ, warn))

    def check(self) -> None:
        """Request the root of the API, so that a wrong address is reported as such."""
        with self._request("HEAD", "/") as response:
            if response.status == http.client.UNAUTHORIZED:
                raise OllamaError(response.status, f"{self.url} requires an API key: set OLLAMA_API_KEY")
            if response.status >= http.client.BAD_REQUEST:
                raise OllamaError(
                    response.status, f"{self._answered(response)}: check OLLAMA_HOST and the proxy settings"
                )

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send a request and return the decoded reply, None for an empty one."""
        data = None if body is None else json.dumps(body).encode()
        with self._request(method, path, data) as response:
            if response.status >= http.client.BAD_REQUEST:
                raise self._failure(response, streams=False)
            text = response.read()
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise OllamaError(0, f"{self.url} answered with something other than JSON") from error

    def text(self, path: str) -> str:
        """Return the body of the reply to a GET request."""
        with self._request("GET", path) as response:
            if response.status >= http.client.BAD_REQUEST:
                raise self._failure(response, streams=False)
            return response.read().decode(errors="replace")

    def stream(self, path: str, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Send a POST request and return the records of the reply, as they arrive.

        A record with an error is raised. Closing the iterator closes the connection, which cancels the
        request.
        """
        with self._request("POST", path, json.dumps(body).encode()) as response:
            if response.status >= http.client.BAD_REQUEST:
                raise self._failure(response, streams=True)
            for line in _lines(response):
                record = _decoded(line)
                if record is None:
                    raise OllamaError(0, f"{self.url} answered with something other than JSON")
                if record.get("error"):
                    raise OllamaError(response.status, str(record["error"]), _details(record))
                yield record

    def has(self, path: str) -> bool:
        """Return whether a HEAD request finds ``path``."""
        with self._request("HEAD", path) as response:
            if response.status in (http.client.OK, http.client.NOT_FOUND):
                return response.status == http.client.OK
            raise self._failure(response, streams=False)

    def upload(self, path: str, file: BinaryIO, size: int, sent: Callable[[int], None]) -> None:
        """Send ``size`` bytes of ``file`` in a POST request; ``sent`` is called with the count so far."""

        def pieces() -> Iterator[bytes]:
            count = 0
            while count < size and (piece := file.read(min(_UPLOAD_BYTES, size - count))):
                count += len(piece)
                yield piece
                sent(count)

        with self._request("POST", path, pieces(), {"Content-Length": str(size)}) as response:
            if response.status >= http.client.BAD_REQUEST:
                raise self._failure(response, streams=False)

    @contextmanager
    def _request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request; yield the response, whose head was read; translate failures of the connection."""
        connection = self._connection()
        target = f"{self._target.path}{path}"
        if self._proxy is not None and self._target.scheme == "http":
            target = f"http://{self._target.netloc}{target}"
        sent = {**self._headers, **self._proxy_headers(), **(headers or {})}
        if isinstance(body, bytes):
            sent["Content-Type"] = "application/json"
        try:
            with _translated(self.url, self._proxy):
                connection.connect()
                connection.sock.settimeout(None)
                try:
                    connection.request(method, target, body, sent)
                except (BrokenPipeError, ConnectionResetError):
                    # The reply of a server that does not read the whole body is more telling than the error.
                    pass
                response = connection.getresponse()
            if http.client.MULTIPLE_CHOICES <= response.status < http.client.BAD_REQUEST:
                raise self._redirected(response)
            with _translated(self.url, begun=True):
                yield response
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._target.scheme == "https" else http.client.HTTPConnection
        host, port = self._target.hostname or "", self._target.port
        if self._proxy is None:
            return kind(host, port, timeout=_CONNECT_SECONDS)
        connection = kind(self._proxy.hostname or "", self._proxy.port, timeout=_CONNECT_SECONDS)
        if self._target.scheme == "https":
            connection.set_tunnel(host, port, headers=_credentials(self._proxy))
        return connection

    def _proxy_headers(self) -> dict[str, str]:
        """Return the proxy's credentials for a request that it reads; those of a tunnel open it."""
        return _credentials(self._proxy) if self._proxy is not None and self._target.scheme == "http" else {}

    def _answered(self, response: http.client.HTTPResponse) -> str:
        return f"{self.url} answered with status {response.status} {response.reason}".rstrip()

    def _redirected(self, response: http.client.HTTPResponse) -> OllamaError:
        """Return the error of a redirection. Following it would send the key to another address."""
        location = response.headers.get("Location", "another address")
        return OllamaError(
            response.status,
            f"{self._answered(response)}, to {location}: set OLLAMA_HOST to the server's address",
        )

    def _failure(self, response: http.client.HTTPResponse, *, streams: bool) -> OllamaError:
        """Return the error of a reply; its form depends on whether the request ``streams``, as in Ollama."""
        record = _decoded(response.read(_MAX_ERROR_BYTES))
        text = record.get("error") if record is not None else None
        if isinstance(text, dict):
            text = text.get("message")
        if not isinstance(text, str) or not text.strip():
            return OllamaError(response.status, self._answered(response), _details(record))
        if not streams:
            return OllamaError(response.status, text, _details(record))
        status = f"{response.status} {response.reason}".rstrip()
        if response.status == http.client.UNAUTHORIZED and text == "unauthorized":
            return OllamaError(response.status, status, _details(record))
        return OllamaError(response.status, f"{status}: {text}", _details(record))


def connected() -> Client:
    """Return the client of the server that ``OLLAMA_HOST`` names, after a check that it is there."""
    client = Client.from_environment()
    client.check()
    return client


def _decoded(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object ``data``, None for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _details(record: Mapping[str, Any] | None) -> dict[str, str]:
    url = (record or {}).get("signin_url")
    return {"signin_url": url} if isinstance(url, str) else {}


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Return the lines of a body that are not blank, as they arrive.

    Unlike ``readline``, ``read1`` raises an error at the premature end of a chunked body.
    """
    rest = b""
    while data := response.read1(_READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        yield from (line for line in lines if line.strip())
    if rest.strip():
        yield rest


@contextmanager
def _translated(url: str, proxy: SplitResult | None = None, *, begun: bool = False) -> Iterator[None]:
    """Raise OllamaError with one sentence for a failure of the connection to ``url``.

    ``begun`` is true once the head of the reply was read.
    """
    try:
        yield
    except (http.client.IncompleteRead, ConnectionResetError) as error:
        if begun:
            text = "the server closed the connection before the reply was complete"
        else:
            text = f"{url} closed the connection without a reply"
        raise OllamaError(0, text) from error
    except http.client.HTTPException as error:
        raise OllamaError(0, f"{url} is not an HTTP server") from error
    except OSError as error:
        if begun:
            raise OllamaError(0, f"the connection to {url} failed: {reason_of(error)}") from error
        if isinstance(error, ConnectionRefusedError) and proxy is None:
            raise Unreachable from error
        through = "" if proxy is None else f" through the proxy {proxy.hostname}:{proxy.port or 80}"
        raise OllamaError(0, f"could not connect to {url}{through}: {reason_of(error)}") from error


def proxy_of(target: SplitResult) -> SplitResult | None:
    """Return the proxy for ``target`` by the variables of the environment; None for loopback addresses."""
    if is_loopback(target.hostname or "") or not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    address = proxies.get(target.scheme)
    if not address or proxy_bypass_environment(target.netloc, proxies):
        return None
    return urlsplit(address if "://" in address else f"http://{address}")


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    from base64 import b64encode

    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
