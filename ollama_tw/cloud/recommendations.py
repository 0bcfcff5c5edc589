"""The models that are worth a try: a list of our own until the cloud has told a newer one.

Source: ``spec/models-and-cli.md`` section 5.8.
"""

# mypy: allow-untyped-calls
# (Twisted's Failure is not annotated)

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ollama_tw.cloud.client import Cloud
from ollama_tw.cloud.policy import CloudPolicy, Target
from ollama_tw.errors import OllamaError

PATH = "/api/experimental/model-recommendations"

_MINUTE = 60.0
_HOUR = 3600.0

REFRESH = 4 * _HOUR
"""Seconds from one list to the next, give or take a fifth."""

SPREAD = 0.2

BACK_OFF = (5 * _MINUTE, 15 * _MINUTE, _HOUR, 4 * _HOUR)
"""Seconds until the next try, after one, two, three and more failures."""

LEAST_PAUSE = 5.0
"""Seconds between two tries, however often the list is read."""

PATIENCE = 3.0
"""Seconds that a try may take."""

_MAX_BYTES = 256 * 1024
_MOST = 100

_log = Logger()


class Recommendation(msgspec.Struct, omit_defaults=True):
    """One model; what is zero or empty is not known."""

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
    """The list, and its renewal in the background.

    Nothing is asked of the cloud before somebody has read the list. ``random`` gives numbers from 0 to 1.
    """

    def __init__(
        self, cloud: Cloud, policy: CloudPolicy, clock: IReactorTime, random: Callable[[], float]
    ) -> None:
        self._cloud = cloud
        self._policy = policy
        self._clock = clock
        self._random = random
        self._list = list(BUILT_IN)
        self._failures = 0
        self._tried: float | None = None
        self._try: Deferred[list[Recommendation]] | None = None
        self._alarm: IDelayedCall | None = None
        self._closed = False

    def read(self) -> list[Recommendation]:
        """The list as it is known now; a newer one is asked for."""
        now = self._clock.seconds()
        if self._tried is None or now - self._tried >= LEAST_PAUSE:
            self._begin()
        return self._list

    def close(self) -> None:
        """Ask no more."""
        self._closed = True
        self._disarm()
        if self._try is not None:
            self._try.cancel()

    def _disarm(self) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()

    def _begin(self) -> None:
        if self._policy.disabled or self._closed or self._try is not None:
            return
        self._disarm()
        self._tried = self._clock.seconds()
        self._try = Deferred.fromCoroutine(self._refresh()).addTimeout(PATIENCE, self._clock)
        self._try.addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, found: list[Recommendation]) -> None:
        self._list = found
        self._failures = 0
        self._end(REFRESH * (1 + SPREAD * (2 * self._random() - 1)))

    def _failed(self, failure: Failure) -> None:
        _log.debug("no newer recommendations: {error}", error=failure.getErrorMessage())
        wait = BACK_OFF[min(self._failures, len(BACK_OFF) - 1)]
        self._failures += 1
        self._end(wait)

    def _end(self, wait: float) -> None:
        self._try = None
        if not self._closed:
            self._alarm = self._clock.callLater(wait, self._begin)

    async def _refresh(self) -> list[Recommendation]:
        # Who reads the list is nobody's business: the request is not signed.
        answer = await self._cloud.ask(Target(self._policy.base, False), "GET", PATH)
        try:
            if answer.status != 200:
                raise OllamaError(502, f"status {answer.status}")
            body = await answer.whole(_MAX_BYTES)
        finally:
            answer.stop()
        found = msgspec.json.decode(body, type=_List).recommendations[:_MOST]
        if not found:
            raise OllamaError(502, "an empty list")
        return found
