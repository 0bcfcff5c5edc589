"""Start-up work that runs in child processes while the server is imported; imports no Twisted."""

from ollama_tw.llama import discovery


def begin() -> None:
    """Start the search for llama.cpp's devices."""
    discovery.begin()
