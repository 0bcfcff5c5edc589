"""Paths that are given instead of the names of models."""

from pathlib import Path

from ollama_tw.cli.command import UsageError

# What no model name begins with.
_PATH_BEGINS = ("./", "../", "/", "~", ".\\", "..\\")


def path_of(model: str) -> Path | None:
    """Return the path that is given instead of a model's name, None for a name.

    A path begins with ``./``, ``../``, ``/`` or ``~``, or is that of a GGUF file that exists.
    """
    path = Path(model)
    if not (model in (".", "..") or model.startswith(_PATH_BEGINS) or path.drive) and not (
        path.suffix == ".gguf" and path.is_file()
    ):
        return None
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UsageError(f"no such file or directory: {path}") from error
