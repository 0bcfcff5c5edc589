"""The gate: identifies the client of each request by its API key, and refuses what the key may not do.

It does nothing while no keys are in use. Errors have the format of the API that the path belongs to.

Source: RFC 6750, sections 2.1 and 3; docs/security.md.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ollama_tw.access.attempts import Attempts
from ollama_tw.access.client import Client
from ollama_tw.access.keyring import Keyring
from ollama_tw.access.keys import Key
from ollama_tw.access.limits import LimitReached, Limits
from ollama_tw.access.requirement import Access
from ollama_tw.errors import OllamaError
from ollama_tw.http.server.admission import Refusal
from ollama_tw.http.server.clients import CHALLENGE, missing_scope, scope_challenge
from ollama_tw.http.server.errors import logged
from ollama_tw.http.server.identity import client_name
from ollama_tw.http.server.replies import send_error, send_json_line
from ollama_tw.metrics import Metrics
from ollama_tw.tracking.context import RequestContext

AccessOf = Callable[[str, bytes], Access | None]
"""Returns what the route of a method and a path requires; None if there is no such route."""

SUBPROTOCOL = "ollama.key."
"""Beginning of the WebSocket subprotocol that contains a key: browsers can send no headers."""

_BEARER = "bearer "
_MAX_DELAYED = 256

_MISSING = 'this server requires an API key: send it as "Authorization: Bearer KEY", or set OLLAMA_API_KEY'
_UNKNOWN = "the API key is not valid"
_EXPIRED = "the API key has expired"


class Gate:
    """Checks requests against the keys of ``keyring``. Used on the reactor thread.

    Without ``shares_prompts`` each key has a part of the prompt cache of its own.
    """

    def __init__(
        self,
        clock: IReactorTime,
        keyring: Keyring,
        limits: Limits,
        access_of: AccessOf,
        metrics: Metrics,
        *,
        shares_prompts: bool = False,
    ) -> None:
        self._shares_prompts = shares_prompts
        self._clock = clock
        self._keyring = keyring
        self._limits = limits
        self._access_of = access_of
        self._metrics = metrics
        self._attempts = Attempts()
        self._delayed = 0

    def check(self, request: Any) -> Refusal | None:
        """Identify the client of ``request``, whose head is complete; return why it is refused, if it is."""
        request.api_client = Client(client_name(request))
        self._keyring.refresh()
        if not self._keyring.in_use:
            return None
        try:
            required = self._required(request)
        except Exception:
            # Modules of routes are imported when they are looked for.
            return Refusal(500, logged(request, Failure()))
        if required == {Access.OPEN}:
            return None
        secret = _secret(request)
        if secret is None:
            return self._refused("missing", 401, _MISSING, CHALLENGE)
        key = self._keyring.find(secret)
        if key is None or self._keyring.is_expired(key):
            reason, text = ("unknown", _UNKNOWN) if key is None else ("expired", _EXPIRED)
            delay = self._attempts.failed(client_name(request), self._clock.seconds())
            challenge = f'{CHALLENGE}, error="invalid_token", error_description="{text}"'
            return self._refused(reason, 401, text, challenge, delay=delay)
        self._identify(request, key)
        for access in required:
            if (refusal := self._without_scope(key.client, access)) is not None:
                return refusal
        # The frames of a WebSocket connection are counted one by one.
        if any(access and access.runs_models for access in required) and not _is_upgrade(request):
            return self._begin(request)
        return None

    def check_frame(self, request: Any, path: str) -> None:
        """Check a request that came over a WebSocket connection; raises :class:`OllamaError`.

        The key of the connection may have been removed, changed or used up since.
        """
        self._keyring.refresh()
        if not self._keyring.in_use:
            return
        key: Key | None = request.api_key
        current = None if key is None else self._keyring.current(key)
        if current is None:
            refusal: Refusal | None = self._refused("unknown", 401, _UNKNOWN if key else _MISSING, "")
        else:
            self._identify(request, current)
            access = self._access_of("POST", path.encode())
            refusal = self._without_scope(current.client, access)
            if refusal is None and access is not None and access.runs_models:
                refusal = self._begin(request)
        if refusal is not None:
            raise OllamaError(refusal.status, refusal.message)

    def _identify(self, request: Any, key: Key) -> None:
        request.api_key, request.api_client = key, key.client
        request.context.client = key.client.name
        request.context.partition = 0 if self._shares_prompts else key.partition

    def ended(self, request: Any) -> None:
        """Stop counting ``request`` towards the limits of its key, and charge its tokens.

        Count it as refused if it was refused after its admission.
        """
        if request.lacks_scope:
            self._metrics.refused("scope")
        if request.limited:
            request.limited = False
            self._limits.end(request.api_client)
            self._limits.charge(request.api_client, _tokens(request.context))

    def refuse(self, request: Any, refusal: Refusal) -> None:
        """Answer ``request``, after the delay of ``refusal``, and finish it."""
        if not refusal.delay or self._delayed >= _MAX_DELAYED:
            self._send(request, refusal)
            return
        self._delayed += 1
        call = self._clock.callLater(refusal.delay, self._send, request, refusal)

        def ended(_: Any) -> None:
            self._delayed -= 1
            if call.active():
                call.cancel()

        request.notifyFinish().addBoth(ended)

    def _required(self, request: Any) -> set[Access | None]:
        """Return what the route requires, None for an unknown one; of a handshake also that of its frames."""
        required = {self._access_of(request.method.decode("latin-1"), request.path)}
        if _is_upgrade(request) and (frames := self._access_of("POST", request.path)) is not None:
            required.add(frames)
        return required

    def _without_scope(self, client: Client, access: Access | None) -> Refusal | None:
        if access is None or access.scope is None or access.admits(client):
            return None
        return self._refused("scope", 403, missing_scope(client, access.scope), scope_challenge(access.scope))

    def _begin(self, request: Any) -> Refusal | None:
        try:
            self._limits.begin(request.api_client)
        except LimitReached as reached:
            return self._refused("limit", 429, str(reached), retry_after=reached.retry_after)
        request.limited = True
        return None

    def _refused(self, reason: str, status: int, message: str, challenge: str = "", **more: Any) -> Refusal:
        self._metrics.refused(reason)
        return Refusal(status, message, challenge, **more)

    def _send(self, request: Any, refusal: Refusal) -> None:
        if refusal.challenge:
            request.setHeader("WWW-Authenticate", refusal.challenge)
        if refusal.retry_after is not None:
            request.setHeader("Retry-After", str(refusal.retry_after))
        if request.path.startswith(b"/v1/"):
            send_json_line(request, _dialect_error(request, refusal), refusal.status)
        else:
            send_error(request, refusal.status, refusal.message)
        request.finish()


def _dialect_error(request: Any, refusal: Refusal) -> dict[str, Any]:
    # /v1/models belongs to both APIs; clients of Anthropic's send its version.
    # Imported here, because the server starts without these modules.
    from ollama_tw.dialects.anthropic.errors import ERRORS as ANTHROPIC_ERRORS
    from ollama_tw.dialects.openai.errors import refusal_object

    headers = request.requestHeaders
    if request.path.startswith(b"/v1/messages") or headers.hasHeader(b"anthropic-version"):
        return ANTHROPIC_ERRORS.body(refusal.status, refusal.message)
    return refusal_object(refusal.status, refusal.message)


def _tokens(context: RequestContext) -> int:
    """Return the tokens of a request, of its runs that are being cancelled those so far."""
    running = sum(run.prompt_tokens + run.tokens for run in context.runs)
    return context.prompt_tokens + context.tokens + running


def _is_upgrade(request: Any) -> bool:
    return bool(request.method == b"GET" and request.requestHeaders.hasHeader(b"upgrade"))


def _secret(request: Any) -> str | None:
    """Return the key that ``request`` sends, None if it sends none."""
    for value in _values(request, b"authorization"):
        if value.lower().startswith(_BEARER):
            return value[len(_BEARER) :].strip()
    for value in _values(request, b"x-api-key"):
        return value.strip()
    if _is_upgrade(request):
        for protocol in ",".join(_values(request, b"sec-websocket-protocol")).split(","):
            if protocol.strip().startswith(SUBPROTOCOL):
                return protocol.strip().removeprefix(SUBPROTOCOL)
    return None


def _values(request: Any, name: bytes) -> list[str]:
    # Not as UTF-8: invalid bytes must not raise.
    return [value.decode("latin-1") for value in request.requestHeaders.getRawHeaders(name, ())]
