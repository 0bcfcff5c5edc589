"""Services that manage models: list, show, copy, delete, create."""
