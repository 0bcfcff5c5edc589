"""Clients of the API: their keys, what they may do, and how much of the server they may use."""
