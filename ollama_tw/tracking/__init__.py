"""Requests in progress: their cancellation, clients and progress. Pure."""
