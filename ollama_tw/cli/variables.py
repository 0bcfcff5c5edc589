"""Environment variables that the commands read."""

from typing import Final

from ollama_tw.config.settings import HOST
from ollama_tw.config.variables import Variable, Warn


def _text(text: str, note: Warn) -> str:
    return text


API_KEY = Variable("OLLAMA_API_KEY", _text, "", "Key that is sent to the server")

CLIENT: Final[tuple[Variable[object], ...]] = (HOST, API_KEY)
"""Those of every command that talks to the server."""
