"""``ollama launch``: programs of others that are set up to use this server."""
