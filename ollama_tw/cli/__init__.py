"""The ollama command."""
