"""The servers that have one model: watched on a thread, chosen by the router.

A server takes part while it is ready, has the model, and tokenizes a text as the others do, because prompts
are sent as tokens.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from twisted.logger import Logger

from ollama_tw import interfaces as tw
from ollama_tw.support.http import EngineError
from ollama_tw.support.router import Replica, Router
from ollama_tw.support.runs import Runs
from ollama_tw_upstream.engines import Condition, Engine, Listing, connect
from ollama_tw_upstream.servers import Server, in_parallel

INTERVAL = 1.0
"""Seconds between two looks at the servers."""

TIMEOUT = 2.0
"""Seconds for a server to answer a question about its condition."""

SILENT_AFTER = 8.0
"""Seconds without an answer after which a server gets no more jobs: before, it may only be busy."""

LOST_AFTER = 15.0
"""Seconds without an answer after which the jobs of a server fail."""

_NOT_FOUND = 404

SAMPLE = "Où est 東京? def f(x):\n\treturn x**2 + 3.14159  # naïve"
"""Text that servers with the same vocabulary tokenize equally."""

_log = Logger()


def same_name(name: str) -> str:
    """Return the form in which the names of models are compared."""
    return name.lower().removesuffix(":latest")


@dataclass(eq=False)
class Peer:
    """One server, and the model as it has it once it takes part."""

    server: Server
    engine: Engine | None = None
    listing: Listing | None = None
    state: str = "unreachable"
    reason: str = "it has not answered yet"
    replica: Replica | None = None
    """None while it gets no jobs."""
    runs: Runs = field(default_factory=lambda: Runs(1))
    """Closed to end the jobs that run on it."""
    answered: float = field(default_factory=time.monotonic)
    """Time of its last answer, or refusal of a connection."""
    others: int = 0
    """Jobs of others at the last look."""
    begun: int = 0
    """Jobs that were sent to it."""


class Peers:
    """The servers with the model ``name``. All methods may be called on any thread.

    ``lanes`` counts for servers that do not report theirs; ``changed`` is called, on any thread, when the sum
    may have changed. ``context_length`` are the tokens of context that are wanted.
    """

    def __init__(
        self,
        name: str,
        servers: Sequence[Server],
        changed: Callable[[], None],
        *,
        lanes: int,
        context_length: int,
    ) -> None:
        self._name = same_name(name)
        self._lanes = lanes
        self.context_length = context_length
        """Tokens of context that each server must have; it is reduced by the first look."""
        self._changed = changed
        self._peers = [Peer(server) for server in servers]
        self._router = Router()
        self._lock = threading.Lock()
        self._sample: Sequence[int] = ()
        self._wake = threading.Event()
        self._closed = False
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="peers")

    def open(self) -> None:
        """Look at the servers and begin to watch them. Raises LoadError if none has the model."""
        in_parallel(self._find, self._peers)
        found = [peer for peer in self._peers if peer.listing is not None]
        if not found:
            raise tw.LoadError(f"no server has the model {self._name}: {self.reasons()}")
        lengths = [peer.listing.context_length for peer in found if peer.listing]
        self.context_length = min([self.context_length, *filter(None, lengths)])
        # The vocabulary is that of the first server in the order of the setting.
        for peer in found:
            self._look(peer)
            if self._sample:
                break
        in_parallel(self._look, self._peers)
        self._watcher.start()

    @property
    def slots(self) -> int:
        """Sum of the lanes of the servers that take part, at least 1."""
        with self._lock:
            return max(1, sum(replica.lanes for replica in self._router.replicas))

    @property
    def replicas(self) -> Sequence[tw.ReplicaState]:
        """The servers as ``/api/ps`` shows them."""
        with self._lock:
            return [
                tw.ReplicaState(
                    peer.server.url,
                    peer.state,
                    peer.replica.lanes if peer.replica else 0,
                    peer.replica.running if peer.replica else 0,
                    peer.reason,
                )
                for peer in self._peers
                if peer.state != "absent"
            ]

    def reasons(self) -> str:
        """Return why each server that gets no jobs gets none."""
        return "; ".join(f"{one.server.url}: {one.reason}" for one in self._peers if one.reason)

    @contextmanager
    def chosen(self, prompt: Sequence[int], tried: Collection[Peer]) -> Iterator[Peer | None]:
        """Choose a server for the blocks of ``prompt``, not one of ``tried``, and count a job on it.

        The value is None if there is none.
        """
        with self._lock:
            by_replica = {peer.replica: peer for peer in self._peers if peer.replica is not None}
            excluded = [peer.replica for peer in tried if peer.replica is not None]
            replica = self._router.choose(prompt, excluded)
            if replica is not None:
                self._router.begin(replica, prompt)
                by_replica[replica].begun += 1
        try:
            yield by_replica[replica] if replica else None
        finally:
            if replica is not None:
                with self._lock:
                    self._router.end(replica)

    def ready(self) -> Sequence[Peer]:
        """Return the servers that take part, the least busy first."""
        with self._lock:
            by_replica = {peer.replica: peer for peer in self._peers}
            return [by_replica[replica] for replica in self._router.replicas]

    def answers(self, peer: Peer) -> None:
        """Count the model as in the memory of ``peer``, before the next look at it."""
        with self._lock:
            if peer.replica is not None and not peer.replica.resident:
                self._router.update(peer.replica, resident=True)

    def failed(self, peer: Peer, error: EngineError) -> None:
        """Give ``peer`` no more jobs until it is found ready again, unless it has refused one job only."""
        if error.status in (None, _NOT_FOUND):
            self._leave(peer, "unreachable", str(error))
            self._wake.set()

    def close(self) -> None:
        """Stop watching, and end the jobs that run."""
        self._closed = True
        self._wake.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for peer in self._peers:
            peer.runs.close()

    def _watch(self) -> None:
        while not self._closed:
            self._wake.wait(INTERVAL)
            self._wake.clear()
            if not self._closed:
                in_parallel(self._look, self._peers)

    def _find(self, peer: Peer) -> None:
        """Set the engine and the listing of ``peer``, unless it has them or they cannot be found."""
        if peer.listing is not None:
            return
        try:
            engine = connect(peer.server, peer.server.connect(timeout=TIMEOUT))
            found = [one for one in engine.models() if same_name(one.name) == self._name]
            peer.engine = engine
            if found:
                peer.listing = found[0]
            else:
                peer.state, peer.reason = "absent", "it does not have the model"
        except EngineError as error:
            peer.state, peer.reason = "unreachable", str(error)

    def _look(self, peer: Peer) -> None:
        """Look at one server, and let it take part or not."""
        self._find(peer)
        engine, listing = peer.engine, peer.listing
        if engine is None or listing is None:
            return
        with self._lock:
            ended = peer.begun - (peer.replica.running if peer.replica else 0)
        try:
            condition = engine.condition(listing)
            obstacle = "" if peer.replica else self._obstacle(engine, listing)
        except EngineError as error:
            # A refusal shows that its machine is there: the jobs that run there end by themselves.
            if not error.timed_out:
                peer.answered = time.monotonic()
            elif peer.replica is not None and time.monotonic() - peer.answered < SILENT_AFTER:
                return
            self._leave(peer, "unreachable", str(error))
            if time.monotonic() - peer.answered > LOST_AFTER:
                self._give_up(peer)
            return
        peer.answered = time.monotonic()
        if condition.state != "ready":
            self._leave(peer, condition.state, _WHY[condition.state])
        elif obstacle:
            self._leave(peer, "unsuitable", obstacle)
        else:
            self._take_part(peer, engine, listing, condition, ended)

    def _obstacle(self, engine: Engine, listing: Listing) -> str:
        """Return why the server must not take part, "" if it may."""
        if 0 < listing.context_length < self.context_length:
            return f"its context of {listing.context_length} tokens is shorter than {self.context_length}"
        sample = engine.tokenize(listing, SAMPLE, add_special=True)
        self._sample = self._sample or sample
        return "" if sample == self._sample else "its model of that name has another vocabulary"

    def _take_part(
        self, peer: Peer, engine: Engine, listing: Listing, condition: Condition, ended: int
    ) -> None:
        """Give ``peer`` jobs; ``ended`` of those sent to it had ended when it was asked for its condition."""
        lanes = peer.server.lanes or condition.lanes or self._lanes
        with self._lock:
            before = peer.replica.lanes if peer.replica else 0
            # All that ran meanwhile may be in its count. One that has just ended here may be, too: a job is
            # another's if two looks show it.
            others = max(0, condition.busy - (peer.begun - ended))
            if peer.replica is None:
                peer.replica = self._router.add(
                    peer.server.url, lanes=lanes, weight=peer.server.weight, resident=condition.resident
                )
                peer.engine, peer.listing = engine, listing
                if peer.runs.closed:
                    peer.runs = Runs(1)
            self._router.update(
                peer.replica, lanes=lanes, resident=condition.resident, others=min(others, peer.others)
            )
            peer.others = others
            peer.state, peer.reason = "ready", ""
        if not before:
            _log.info("{server} takes part in {model}", server=peer.server.url, model=self._name)
        if lanes != before:
            self._changed()

    def _leave(self, peer: Peer, state: str, reason: str) -> None:
        with self._lock:
            replica, peer.replica = peer.replica, None
            peer.state, peer.reason = state, reason
            if replica is not None:
                self._router.remove(replica)
        if replica is not None:
            _log.warn(
                "{server} gets no more jobs of {model}: {reason}",
                server=peer.server.url,
                model=self._name,
                reason=reason,
            )
            # It may come back with another model, or another version of itself.
            if state == "unreachable":
                peer.engine = peer.listing = None
            self._changed()

    def _give_up(self, peer: Peer) -> None:
        peer.answered = time.monotonic()
        peer.runs.close()


_WHY = {"loading": "it loads its model", "draining": "it is draining"}
