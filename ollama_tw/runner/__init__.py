"""Runners in child processes: supervisor, protocol, sandbox, and the two ends of a runner."""
