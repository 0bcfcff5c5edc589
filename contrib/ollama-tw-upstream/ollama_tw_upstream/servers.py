"""The servers of the setting ``OLLAMA_TW_UPSTREAM``."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

from ollama_tw.support.http import HTTPEngine
from ollama_tw.support.runs import Runs

T = TypeVar("T")
R = TypeVar("R")

_MAX_THREADS = 32


@dataclass(frozen=True)
class Server:
    """A server: an address, and what its query sets: ``http://10.0.0.7:8000?lanes=64&weight=2``."""

    url: str
    lanes: int | None = None
    """Jobs that it decodes at once, if it does not report them; None if they are not set."""
    weight: float = 1.0
    headers: dict[str, str] = field(default_factory=dict, hash=False)

    def connect(self, runs: Runs | None = None, timeout: float = 60) -> HTTPEngine:
        """Return an HTTP client whose cancellable requests end with ``runs``."""
        return HTTPEngine(self.url, runs or Runs(1), headers=self.headers, timeout=timeout)


def servers() -> Sequence[Server]:
    """Return the servers of ``OLLAMA_TW_UPSTREAM``, which are separated by spaces or commas.

    Raises ValueError with one sentence for the user.
    """
    key = os.environ.get("OLLAMA_TW_UPSTREAM_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    texts = os.environ.get("OLLAMA_TW_UPSTREAM", "").replace(",", " ").split()
    return [_parse(text, headers) for text in dict.fromkeys(texts)]


def _parse(text: str, headers: dict[str, str]) -> Server:
    address, _, query = text.partition("?")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f'OLLAMA_TW_UPSTREAM: "{text}" is not an address such as http://10.0.0.7:8000')
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    try:
        lanes = int(given.pop("lanes")) if "lanes" in given else None
        weight = float(given.pop("weight", "1"))
    except ValueError:
        lanes, weight = 0, 0.0
    if given or (lanes is not None and lanes < 1) or not 0 < weight < float("inf"):
        raise ValueError(f'OLLAMA_TW_UPSTREAM: "{text}" may set lanes and weight only, to positive numbers')
    return Server(address.rstrip("/"), lanes, weight, headers)


def in_parallel(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return the results of ``work`` on each item, called on threads of their own."""
    listed = list(items)
    if len(listed) < 2:
        return [work(item) for item in listed]
    with ThreadPoolExecutor(min(len(listed), _MAX_THREADS)) as pool:
        return list(pool.map(work, listed))
