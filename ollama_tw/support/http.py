"""HTTP client with JSON for engines in another process or on another machine.

Source: the WHATWG HTML standard, "Server-sent events", for event streams.
"""

import json
import socket
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from ollama_tw.errors import reason_of
from ollama_tw.interfaces import RunnerError
from ollama_tw.support.runs import Runs

_OK = 200

_MAX_TEXT = 200
"""Characters of a refusal in another form than JSON that are shown."""


class EngineError(RunnerError):
    """A request that an engine refused, or whose connection or stream failed."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        """HTTP status of the refusal; None if the connection or the stream failed."""

    @property
    def timed_out(self) -> bool:
        """True if there was no answer in time."""
        return self.status is None and isinstance(self.__cause__, TimeoutError)


class HTTPEngine:
    """An engine at ``url``; ``headers`` are sent with every request.

    All methods block, may be called on any thread, and raise EngineError with the error of the engine
    or of the connection. ``timeout``, in seconds, limits connecting, and each read of a response that
    cannot be cancelled. With ``cancel`` the connection is closed when it is set or ``runs`` is closed.
    """

    def __init__(
        self, url: str, runs: Runs, *, headers: Mapping[str, str] | None = None, timeout: float = 60
    ) -> None:
        self._url = urlsplit(url)
        self._runs = runs
        self._headers = {"Content-Type": "application/json", "Connection": "close", **(headers or {})}
        self._timeout = timeout

    def ask(self, path: str, body: Any = None, cancel: Event | None = None) -> Any:
        """Send ``body`` as JSON with POST, or a GET if it is None, and return the decoded response."""
        with self._request(path, body, cancel) as response:
            return json.load(response)

    def status(self, path: str) -> int:
        """Return the status of a GET request, whatever it is."""
        try:
            with self._request(path, None, None):
                return _OK
        except EngineError as error:
            if error.status is None:
                raise
            return error.status

    def events(self, path: str, body: Any, cancel: Event) -> Generator[Any, None, None]:
        """Send ``body`` with POST and yield the decoded objects of the event stream in the response.

        Ends when the job is cancelled; closing the iterator closes the connection.
        """
        try:
            with self._request(path, body, cancel) as response:
                for line in response:
                    if line.startswith(b"data: {"):
                        event = json.loads(line.removeprefix(b"data: "))
                        if "error" in event:
                            raise EngineError(_error_text(event))
                        yield event
        except RunnerError:
            if not self._runs.ended(cancel):
                raise

    @contextmanager
    def _request(self, path: str, body: Any, cancel: Event | None) -> Iterator[HTTPResponse]:
        kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
        try:
            with ExitStack() as stack:
                connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout)
                stack.enter_context(closing(connection)).connect()
                if cancel is not None:
                    connection.sock.settimeout(None)
                    shut_down = partial(_shut_down, connection.sock)
                    stack.enter_context(self._runs.interrupting(cancel, shut_down))
                connection.request(method, self._url.path.rstrip("/") + path, data, self._headers)
                response = stack.enter_context(connection.getresponse())
                if response.status != _OK:
                    raise EngineError(_refusal(response), response.status)
                yield response
        except (json.JSONDecodeError, RecursionError) as error:
            raise EngineError(f"the response of the engine at {self._url.netloc} is not JSON") from error
        except (OSError, HTTPException, ValueError) as error:
            text = f"the engine at {self._url.netloc} does not respond: {reason_of(error)}"
            raise EngineError(text) from error


def _shut_down(sock: socket.socket) -> None:
    try:
        # close() would not wake the thread that reads from the socket.
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _refusal(response: HTTPResponse) -> str:
    """Return the text of a refusal: that of its JSON, or what there is instead."""
    body = response.read()
    try:
        return _error_text(json.loads(body))
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        return f"status {response.status}: {text[:_MAX_TEXT]}"


def _error_text(response: Any) -> str:
    """Return the text of an error response, in OpenAI's form or a plain one."""
    error = response.get("error", response) if isinstance(response, dict) else response
    return str(error.get("message", error) if isinstance(error, dict) else error)
