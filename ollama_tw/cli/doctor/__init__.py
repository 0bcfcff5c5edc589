"""Checks of ``ollama doctor``: each yields findings, with what to do about them."""
