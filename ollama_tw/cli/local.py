"""The server of this machine: its address and its log."""

from pathlib import Path

from ollama_tw.config.host import Endpoint, is_loopback

ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - not bound
"""Hosts of a server that listens on all addresses."""


def is_local(endpoint: Endpoint) -> bool:
    """Return whether a server at ``endpoint`` runs on this machine."""
    return endpoint.host in ANY_ADDRESS or is_loopback(endpoint.host)


def server_log() -> Path:
    """Return the file to which servers write their log that ``ollama run`` has started."""
    return Path.home() / ".ollama" / "logs" / "server.log"
