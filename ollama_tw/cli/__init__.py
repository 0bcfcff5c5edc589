"""The ``ollama`` command. Imports nothing of the server, except for ``ollama serve``."""
