"""The commands of ``ollama``, one module each; :mod:`ollama_tw.cli.main` imports the one that is run."""
