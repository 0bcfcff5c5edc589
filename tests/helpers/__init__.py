"""Helpers that several folders of tests use: servers, HTTP clients, models and backends."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""

PATIENCE = 60.0
"""Time limit of one step of a test in seconds: more than it takes on a slow and busy machine."""
