"""Requirements of routes on their clients."""

from enum import Enum

from ollama_tw.access.client import Scope


class Access(Enum):
    """The requirement of a route where API keys are in use."""

    OPEN = "open"
    """No key."""
    READ = "read"
    """The scope *inference*."""
    RUN = "run"
    """The scope *inference*; the request runs a model and counts towards the limits of its key."""
    MANAGE = "manage"
    METRICS = "metrics"
    ADMIN = "admin"

    @property
    def scope(self) -> Scope | None:
        """The scope that a key needs; None if no key is needed."""
        return _SCOPES[self]


_SCOPES = {
    Access.OPEN: None,
    Access.READ: Scope.INFERENCE,
    Access.RUN: Scope.INFERENCE,
    Access.MANAGE: Scope.MANAGE,
    Access.METRICS: Scope.METRICS,
    Access.ADMIN: Scope.ADMIN,
}
