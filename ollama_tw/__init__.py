"""An Ollama server on Twisted."""

__version__ = "0.5.0"
