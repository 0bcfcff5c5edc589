"""Recommended models: a built-in list that is replaced by the cloud's, fetched in the background.

Source: ollama: server/model_recommendations.go.
"""

# mypy: allow-untyped-calls
# (Twisted's Failure is not annotated)

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ollama_tw.cloud.client import RemoteClient
from ollama_tw.cloud.policy import CloudPolicy, RemoteServer
from ollama_tw.errors import OllamaError

PATH = "/api/experimental/model-recommendations"

_MINUTE = 60.0
_HOUR = 3600.0

REFRESH = 4 * _HOUR
"""Seconds between two successful fetches, varied by ``SPREAD``."""

SPREAD = 0.2
"""Relative random variation of ``REFRESH``."""

BACK_OFF = (5 * _MINUTE, 15 * _MINUTE, _HOUR, 4 * _HOUR)
"""Seconds until the next attempt after one, two, three, and four or more failures."""

MIN_PAUSE = 5.0
"""Minimum seconds between two attempts, however often the list is read."""

TIMEOUT = 3.0
"""Seconds after which an attempt fails."""

_MAX_BYTES = 256 * 1024
_MAX_MODELS = 100

_log = Logger()


class Recommendation(msgspec.Struct, omit_defaults=True):
    """A recommended model; fields that are zero or empty are unknown."""

    model: str
    description: str
    context_length: int = 0
    max_output_tokens: int = 0
    vram_bytes: int = 0
    required_plan: str = ""


class _List(msgspec.Struct):
    recommendations: list[Recommendation]


BUILT_IN = (
    Recommendation("kimi-k2.6:cloud", "Coding and long tasks of agents", 262_144, 262_144),
    Recommendation("glm-5.1:cloud", "Reasoning and code", 202_752, 131_072),
    Recommendation("qwen3.5:cloud", "Reasoning, code and images", 262_144, 32_768),
    Recommendation("minimax-m2.7:cloud", "Fast work on code", 204_800, 128_000),
    Recommendation("gemma4", "Reasoning and code on this machine", vram_bytes=12_000_000_000),
    Recommendation("qwen3.5", "Reasoning, code and images on this machine", vram_bytes=14_000_000_000),
)


class Recommendations:
    """The list, and its updates in the background.

    The first request is sent when the list is read. ``random`` returns numbers from 0 to 1.
    """

    def __init__(
        self, client: RemoteClient, policy: CloudPolicy, clock: IReactorTime, random: Callable[[], float]
    ) -> None:
        self._client = client
        self._policy = policy
        self._clock = clock
        self._random = random
        self._list = list(BUILT_IN)
        self._failures = 0
        self._attempted: float | None = None
        self._attempt: Deferred[list[Recommendation]] | None = None
        self._timer: IDelayedCall | None = None
        self._closed = False

    def read(self) -> list[Recommendation]:
        """Return the current list, and start to fetch a newer one."""
        now = self._clock.seconds()
        if self._attempted is None or now - self._attempted >= MIN_PAUSE:
            self._begin()
        return self._list

    def close(self) -> None:
        """Stop fetching."""
        self._closed = True
        self._cancel_timer()
        if self._attempt is not None:
            self._attempt.cancel()

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _begin(self) -> None:
        if self._policy.disabled or self._closed or self._attempt is not None:
            return
        self._cancel_timer()
        self._attempted = self._clock.seconds()
        self._attempt = Deferred.fromCoroutine(self._refresh()).addTimeout(TIMEOUT, self._clock)
        self._attempt.addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, found: list[Recommendation]) -> None:
        self._list = found
        self._failures = 0
        self._end(REFRESH * (1 + SPREAD * (2 * self._random() - 1)))

    def _failed(self, failure: Failure) -> None:
        _log.debug("recommendations not updated: {error}", error=failure.getErrorMessage())
        wait = BACK_OFF[min(self._failures, len(BACK_OFF) - 1)]
        self._failures += 1
        self._end(wait)

    def _end(self, wait: float) -> None:
        self._attempt = None
        if not self._closed:
            self._timer = self._clock.callLater(wait, self._begin)

    async def _refresh(self) -> list[Recommendation]:
        # Not signed: readers of the list stay anonymous.
        response = await self._client.send(RemoteServer(self._policy.base, False), "GET", PATH)
        try:
            if response.status != 200:
                raise OllamaError(502, f"status {response.status}")
            body = await response.whole(_MAX_BYTES)
        finally:
            response.stop()
        found = msgspec.json.decode(body, type=_List).recommendations[:_MAX_MODELS]
        if not found:
            raise OllamaError(502, "an empty list")
        return found
