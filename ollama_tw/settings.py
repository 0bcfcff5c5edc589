"""Public path of the errors that invalid settings raise; the settings are in ``ollama_tw.config``."""

from ollama_tw.config.declaration import SettingsError

__all__ = ["SettingsError"]
