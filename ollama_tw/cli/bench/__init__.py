"""Measurement of servers under the same load: ``ollama bench``, and the base of ``benchmarks/``."""
