"""Composition root: builds every service, registers every route, starts and drains."""
