"""Tests of ``ollama bench`` and of what it shares with ``benchmarks/``."""
