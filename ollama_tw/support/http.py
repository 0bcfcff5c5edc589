"""Engines in another process or on another machine, which are asked over HTTP with JSON."""

import json
import socket
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from ollama_tw.interfaces import RunnerError
from ollama_tw.support.runs import Runs

_OK = 200


class HTTPEngine:
    """The server at ``url``, to which ``headers`` are sent with every request.

    Both methods block, may be called from any thread, and raise RunnerError, whose text says what the
    server answered or why it did not. ``timeout``, in seconds, is for connecting, and for each wait for
    an answer that cannot be cancelled. Where ``cancel`` is given, setting it or closing ``runs`` hangs
    up at once.
    """

    def __init__(
        self, url: str, runs: Runs, *, headers: Mapping[str, str] | None = None, timeout: float = 60
    ) -> None:
        self._url = urlsplit(url)
        self._runs = runs
        self._headers = {"Content-Type": "application/json", "Connection": "close", **(headers or {})}
        self._timeout = timeout

    def ask(self, path: str, body: Any = None, cancel: Event | None = None) -> Any:
        """The answer, decoded. ``body`` is posted as JSON; without one it is a GET."""
        with self._answer(path, body, cancel) as response:
            return json.load(response)

    def events(self, path: str, body: Any, cancel: Event) -> Generator[Any, None, None]:
        """The objects of an answer that comes as an event stream, decoded as they come. When the run is
        to end they end too; closing the iterator hangs up."""
        try:
            with self._answer(path, body, cancel) as response:
                for line in response:
                    if line.startswith(b"data: {"):
                        event = json.loads(line.removeprefix(b"data: "))
                        if "error" in event:
                            raise RunnerError(_complaint(event))
                        yield event
        except RunnerError:
            if not self._runs.ended(cancel):
                raise

    @contextmanager
    def _answer(self, path: str, body: Any, cancel: Event | None) -> Iterator[HTTPResponse]:
        kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
        try:
            with ExitStack() as stack:
                connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout)
                stack.enter_context(closing(connection)).connect()
                if cancel is not None:
                    connection.sock.settimeout(None)
                    hang_up = partial(_hang_up, connection.sock)
                    stack.enter_context(self._runs.interrupting(cancel, hang_up))
                connection.request(method, self._url.path.rstrip("/") + path, data, self._headers)
                response = stack.enter_context(connection.getresponse())
                if response.status != _OK:
                    raise RunnerError(_complaint(json.load(response)))
                yield response
        except json.JSONDecodeError as error:
            raise RunnerError(f"the engine at {self._url.netloc} gave an answer that is not JSON") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunnerError(f"the engine at {self._url.netloc} does not answer: {reason}") from error


def _hang_up(sock: socket.socket) -> None:
    try:
        # Closing it would not wake the thread that reads from it.
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _complaint(answer: Any) -> str:
    """The text of an error, in OpenAI's form or a plainer one."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(error.get("message", error) if isinstance(error, dict) else error)
