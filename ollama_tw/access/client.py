"""The client of a request: its name, scopes, priority and limits."""

from dataclasses import dataclass
from enum import StrEnum

from ollama_tw.tracking.priority import Priority


class Scope(StrEnum):
    """A group of routes that a key may use."""

    INFERENCE = "inference"
    """Run models, and list and describe them."""
    MANAGE = "manage"
    """Pull, push, create, copy, delete, upload, load and unload models."""
    METRICS = "metrics"
    ADMIN = "admin"
    """Everything."""


@dataclass(frozen=True, slots=True)
class Client:
    """Sender of a request: the owner of an API key, or anyone at an address where no keys are in use.

    ``name`` is that of the key or the address, by which clients differ. ``concurrent`` limits the requests
    that run models at once, ``tokens_per_minute`` the tokens of prompts and output; None is no limit.
    """

    name: str
    scopes: frozenset[Scope] = frozenset({Scope.ADMIN})
    priority: Priority = Priority.NORMAL
    concurrent: int | None = None
    tokens_per_minute: int | None = None
    anonymous: bool = True
    """True if the client has no key."""

    def may(self, scope: Scope) -> bool:
        """Return whether the client may use the routes of ``scope``."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


LOCAL = Client("local")
"""The client of work that no request started."""
