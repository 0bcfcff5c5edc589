"""The interactive session of ``ollama run``."""
