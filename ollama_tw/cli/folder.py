"""The models directory of the server on this machine."""

import os
from pathlib import Path

from ollama_tw.cli.command import UsageError
from ollama_tw.config.declaration import SettingsError
from ollama_tw.config.settings import VARIABLES, Settings

MODELS = next(variable for variable in VARIABLES if variable.name == "OLLAMA_MODELS")


def models_folder() -> Path:
    """Return the models directory of the environment; raises UsageError if there is none."""
    try:
        path = Settings.read(os.environ, lambda text: None).models
    except SettingsError as error:
        raise UsageError(str(error)) from error
    try:
        found = (path / "blobs").is_dir()
    except PermissionError as error:
        raise UsageError(f"permission denied: {path}: run the command as the user of the server") from error
    if not found:
        raise UsageError(f"{path} is not a models directory: set OLLAMA_MODELS to that of the server")
    return path
