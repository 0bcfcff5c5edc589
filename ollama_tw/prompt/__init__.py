"""Conversations, and history cut to the context length. Pure: no I/O, no Twisted."""
