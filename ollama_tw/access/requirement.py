"""Requirements of routes on their clients."""

from enum import Enum

from ollama_tw.access.client import Client, Scope


class Access(Enum):
    """The requirement of a route where API keys are in use."""

    OPEN = "open"
    """No key."""
    READ = "read"
    """The scope *inference*."""
    RUN = "run"
    """The scope *inference*; the request runs a model and counts towards the limits of its key."""
    RUN_OR_LOAD = "run or load"
    """As RUN, or the scope *manage*: the handler requires the one that the body needs."""
    MANAGE = "manage"
    METRICS = "metrics"
    ADMIN = "admin"

    @property
    def scope(self) -> Scope | None:
        """The scope that a key needs; None if no key is needed."""
        return _SCOPES[self]

    @property
    def runs_models(self) -> bool:
        """True if the request counts towards the limits of its key."""
        return self in (Access.RUN, Access.RUN_OR_LOAD)

    def admits(self, client: Client) -> bool:
        """Return whether ``client`` may send such requests, whatever their bodies."""
        if self.scope is None or client.may(self.scope):
            return True
        return self is Access.RUN_OR_LOAD and client.may(Scope.MANAGE)


_SCOPES = {
    Access.OPEN: None,
    Access.READ: Scope.INFERENCE,
    Access.RUN: Scope.INFERENCE,
    Access.RUN_OR_LOAD: Scope.INFERENCE,
    Access.MANAGE: Scope.MANAGE,
    Access.METRICS: Scope.METRICS,
    Access.ADMIN: Scope.ADMIN,
}
