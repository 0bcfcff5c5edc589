"""Backend for the models of other servers: this project's own, llama-server, vLLM, SGLang."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw import interfaces as tw
from ollama_tw.support.http import EngineError
from ollama_tw_upstream.engines import Engine, Listing, connect
from ollama_tw_upstream.peers import same_name
from ollama_tw_upstream.runner import UpstreamRunner
from ollama_tw_upstream.servers import Server, in_parallel, servers

_TIMEOUT = 1.0
"""Seconds for a server to answer when models or devices are listed."""

_KEPT = 15.0
"""Seconds for which the last answer of a server counts that does not answer in time: it may only be busy."""


@dataclass(frozen=True)
class _Answer:
    """Models of a server, or the ``reason`` why they are unknown."""

    server: Server
    kind: str = ""
    models: Sequence[Listing] = ()
    reason: str = ""

    @property
    def description(self) -> str:
        """One line for ``/api/backends``."""
        return self.reason or f"{self.kind}: {', '.join(one.name for one in self.models) or 'no models'}"


@implementer(IPlugin, tw.IBackend, tw.IModelSource)
@dataclass(eq=False)
class UpstreamBackend:
    """Lists and loads the models of the servers in OLLAMA_TW_UPSTREAM."""

    name: str = "upstream"
    version: str = "2.0.0"
    priority: int = -1000  # It cannot load files, only the models that it lists.
    _engines: dict[Server, Engine] = field(default_factory=dict)
    _answers: dict[Server, tuple[_Answer, float]] = field(default_factory=dict)
    """The last answer of each server that gave one, and its monotonic time."""

    def probe(self) -> tw.Probe:
        """Return one device for each server, with its models."""
        try:
            answers = self._ask_all()
        except ValueError as error:
            return tw.Probe(reason=str(error))
        devices = tuple(tw.Device(one.server.url, one.description, "accel", 0, 0) for one in answers)
        return tw.Probe(devices, "" if devices else "OLLAMA_TW_UPSTREAM is not set")

    def models(self) -> Sequence[tw.RemoteModel]:
        """Return the models of all servers that can be reached, those of one name as one model."""
        try:
            answers = self._ask_all()
        except ValueError:
            return []
        found: dict[str, list[tuple[Server, Listing]]] = {}
        for server, listing in _listings(answers):
            found.setdefault(same_name(listing.name), []).append((server, listing))
        return [_model(name, having) for name, having in found.items()]

    def load(self, plan: tw.LoadPlan, progress: tw.Progress) -> tw.IRunner:
        """Connect to the servers that have the model. Raises LoadError."""
        scheme, _, name = plan.model_path.partition(":")
        if scheme != self.name or not name:
            raise tw.LoadError("the backend upstream does not load files, only models of other servers")
        try:
            return UpstreamRunner(plan, name, servers())
        except ValueError as error:
            raise tw.LoadError(str(error)) from error

    def _ask_all(self) -> Sequence[_Answer]:
        return in_parallel(self._ask, servers())

    def _ask(self, server: Server) -> _Answer:
        try:
            engine = self._engines.get(server) or connect(server, server.connect(timeout=_TIMEOUT))
            answer = _Answer(server, engine.kind, engine.models())
        except EngineError as error:
            last, since = self._answers.get(server, (None, 0.0))
            if error.timed_out and last is not None and time.monotonic() - since < _KEPT:
                return last
            self._engines.pop(server, None)
            self._answers.pop(server, None)
            return _Answer(server, reason=str(error))
        self._engines[server] = engine
        self._answers[server] = answer, time.monotonic()
        return answer


def _listings(answers: Sequence[_Answer]) -> Iterator[tuple[Server, Listing]]:
    return ((answer.server, listing) for answer in answers for listing in answer.models)


def _model(name: str, having: Sequence[tuple[Server, Listing]]) -> tw.RemoteModel:
    """Return the model that the servers have, as the first one with a template describes it."""
    first = having[0][1]
    described = next((one for _, one in having if one.described), first)
    return tw.RemoteModel(
        first.name,
        f"upstream:{name}",
        ", ".join(server.url for server, _ in having),
        described.metadata,
        template=described.template,
        system=described.system,
        parameters=described.parameters,
        messages=described.messages,
    )
