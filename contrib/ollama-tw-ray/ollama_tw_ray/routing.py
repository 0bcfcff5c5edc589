"""Choice of a replica by the router of ``ollama_tw``, in the process of the front.

Ray makes one :class:`PrefixRouter` for each handle, and calls it on an event loop of its own. It copies this
module: what is shared is in others.
"""

from collections.abc import Sequence
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from ollama_tw.support.router import Replica, Router
from ollama_tw_ray import states

PATH = f"{__name__}.PrefixRouter"
"""Name by which Ray imports the router."""


class PrefixRouter(RequestRouter):  # type: ignore[misc] # Ray is not followed by mypy
    """Sends a job to the replica with the longest cached prefix of its prompt, or the least busy one."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Begin without replicas."""
        self._prefixes = Router()
        self._known: dict[ReplicaID, tuple[RunningReplica, Replica]] = {}
        self._requests: dict[str, Replica] = {}

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Add the new replicas, and remove those that are gone."""
        super().update_replicas(replicas)
        self._take_over()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Remove a replica that has died."""
        super().on_replica_actor_died(replica_id)
        self._take_over()

    def _take_over(self) -> None:
        current = self.curr_replicas
        for replica_id in [one for one in self._known if one not in current]:
            self._prefixes.remove(self._known.pop(replica_id)[1])
        for replica_id, replica in current.items():
            if replica_id not in self._known:
                added = self._prefixes.add(replica_id.unique_id, lanes=replica.max_ongoing_requests)
                self._known[replica_id] = replica, added
        self._report()

    def _report(self) -> None:
        running = [
            states.RunningState(one.name, replica.node_id, one.lanes, one.running)
            for replica, one in self._known.values()
        ]
        states.report(self.app_name, running)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replica that the router chooses, then all others, in case that it is full."""
        blocks: Sequence[int] = ()
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
            blocks = pending_request.kwargs.get("blocks", ())
        candidates = {one.replica_id for one in candidate_replicas}
        excluded = [one for key, (_, one) in self._known.items() if key not in candidates]
        chosen = self._prefixes.choose(blocks, excluded)
        first = [replica for replica, one in self._known.values() if one is chosen]
        return [first, [one for one in candidate_replicas if one not in first]]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Count a job, and note its prompt. Calls have no blocks and are not counted."""
        if replica_id in self._known and "blocks" in pending_request.kwargs:
            replica = self._known[replica_id][1]
            self._prefixes.begin(replica, pending_request.kwargs["blocks"])
            self._requests[pending_request.metadata.internal_request_id] = replica
            self._report()

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Count the end of the job."""
        replica = self._requests.pop(internal_request_id, None)
        if replica is not None:
            self._prefixes.end(replica)
            self._report()
