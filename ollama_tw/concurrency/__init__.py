"""Thread pools and Deferred helpers."""
