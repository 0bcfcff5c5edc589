"""Requests for models that other servers run: cloud references and stubs."""
