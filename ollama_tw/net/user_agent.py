"""User agent of outbound requests."""

import platform
import sys

from ollama_tw import OLLAMA_VERSION

_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "i686": "386"}
_SYSTEM = "windows" if sys.platform == "win32" else sys.platform
USER_AGENT = (
    f"ollama/{OLLAMA_VERSION} ({_ARCHITECTURES.get(platform.machine(), platform.machine())} {_SYSTEM})"
    " Go/go1.26.0"
)
"""The ``User-Agent`` header, in the form of Ollama's."""
