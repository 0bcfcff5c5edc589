"""Models as a service: list, show, copy, delete, create."""
