"""Differential run: the same requests to two servers that speak Ollama's API, and what differs."""
