"""User agent and time limit of outbound requests."""

import platform
import sys

PROTOCOL_VERSION = "0.12.0"
"""The release of Ollama whose registry protocol this is; registries look at it in the user agent."""

PATIENCE = 30.0
"""Seconds without an answer, or without a byte of it, after which a server has stalled."""

_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "i686": "386"}
_SYSTEM = "windows" if sys.platform == "win32" else sys.platform
USER_AGENT = (
    f"ollama/{PROTOCOL_VERSION} ({_ARCHITECTURES.get(platform.machine(), platform.machine())} {_SYSTEM})"
    " Go/go1.26.0"
)
