"""What is said to the other engine, over HTTP."""

import json
import os
import queue
import threading
from collections.abc import Callable, Generator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from ollama_tw.interfaces import RunnerError

_POLL = 0.05
_END = object()


class Engine:
    """One server. ``timeout``, in seconds, is for whole answers; streams may take their time."""

    def __init__(self, server: str, timeout: float = 60) -> None:
        self._url = urlsplit(server)
        self._timeout = timeout
        self._streams: set[Callable[[], None]] = set()

    def _open(self, path: str, body: Any, timeout: float | None) -> HTTPConnection:
        kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=timeout)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if key := os.environ.get("OLLAMA_TW_UPSTREAM_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", self._url.path + path, data, headers)
        return connection

    def ask(self, path: str, body: Any = None) -> Any:
        """The answer to a request, decoded. Raises RunnerError."""
        try:
            connection = self._open(path, body, self._timeout)
            try:
                return _checked(connection.getresponse())
            finally:
                connection.close()
        except (OSError, HTTPException, ValueError) as error:
            raise RunnerError(f"the engine at {self._url.netloc} does not answer: {error}") from error

    def stream(self, path: str, body: Any, ended: Callable[[], bool]) -> Generator[Any, None, None]:
        """The events of a streamed answer; ends early once ``ended``. Raises RunnerError."""
        events: queue.Queue[Any] = queue.Queue(64)
        left = threading.Event()
        sockets: list[Any] = []

        def put(item: Any) -> None:
            while not left.is_set():
                try:
                    events.put(item, timeout=_POLL)
                    break
                except queue.Full:
                    continue

        def read() -> None:
            try:
                connection = self._open(path, body, None)
                sockets.append(connection.sock)
                response = connection.getresponse()
                if response.status != 200:
                    _checked(response)
                for line in response:
                    if line.startswith(b"data: {"):
                        put(json.loads(line[6:]))
                    if left.is_set():
                        break
                put(_END)
            except (OSError, HTTPException, ValueError, RunnerError) as error:
                put(error)

        def leave() -> None:
            # The engine sees that nobody listens, and stops.
            left.set()
            for socket in sockets:
                try:
                    socket.shutdown(2)
                except OSError:
                    continue
            reader.join(_POLL * 20)

        reader = threading.Thread(target=read, daemon=True, name="upstream")
        reader.start()
        self._streams.add(leave)
        try:
            while not ended():
                try:
                    event = events.get(timeout=_POLL)
                except queue.Empty:
                    continue
                if event is _END:
                    return
                if isinstance(event, Exception):
                    raise RunnerError(f"the engine broke off: {event}") from event
                if error := event.get("error"):
                    raise RunnerError(str(error.get("message", error)))
                yield event
        finally:
            self._streams.discard(leave)
            leave()

    def close(self) -> None:
        """End all streams."""
        for leave in list(self._streams):
            leave()


def _checked(response: Any) -> Any:
    answer = json.loads(response.read() or b"null")
    if response.status == 200:
        return answer
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    raise RunnerError(str(error.get("message", error) if isinstance(error, dict) else error))
