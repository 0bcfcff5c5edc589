"""Differential run: the same requests to two servers with Ollama's API, and what differs."""
