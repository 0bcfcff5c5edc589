"""Environment variables that the commands read."""

from typing import Final

from ollama_tw.config import parsers
from ollama_tw.config.declaration import Variable
from ollama_tw.config.settings import HOST

API_KEY = Variable("OLLAMA_API_KEY", parsers.string, "", "Key that is sent to the server")
NO_HISTORY = Variable("OLLAMA_NOHISTORY", parsers.boolean, "0", "Do not preserve readline history")
EDITOR = Variable("OLLAMA_EDITOR", parsers.string, "", "Editor for Ctrl-G; else VISUAL or EDITOR")

CLIENT: Final[tuple[Variable[object], ...]] = (HOST, API_KEY)
"""Those of every command that talks to the server."""

SESSION: Final[tuple[Variable[object], ...]] = (*CLIENT, EDITOR, NO_HISTORY)
"""Those of ``ollama run``."""
