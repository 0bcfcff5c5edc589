"""Scheduling: loaded models, request queue, eviction, memory fit, backend choice."""
