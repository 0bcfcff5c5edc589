"""Thread pools, helpers for Deferreds and a priority lock."""
