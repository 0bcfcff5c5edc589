"""The configuration file ``ollama.toml``: settings, models and aliases."""
