"""Files of a Modelfile: their digests, and their way to the server.

Source: ollama: cmd/cmd.go, CreateHandler, createBlob.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ollama_tw.cli.client import Client
from ollama_tw.cli.progress import Progress
from ollama_tw.library.modelfile.local import find_files, load_modelfile
from ollama_tw.library.modelfile.recipe import read_recipe

_SHOWN = len("sha256:") + 12


def local_model(client: Client, modelfile: Path, note: Callable[[str], None]) -> dict[str, Any]:
    """Upload the files of ``modelfile`` that the server lacks; return the fields of the create request.

    ``note`` gets the warnings of the Modelfile. Raises ModelfileError, OllamaError, OSError.
    """
    instructions, directory = load_modelfile(modelfile, working_directory=Path.cwd())
    recipe = read_recipe(instructions)
    for warning in recipe.warnings:
        note(warning)
    with Progress() as progress:
        progress.spinner("gathering model components")
        files = find_files(recipe, directory)
        digests = {path: digest_of(path) for path in files.paths()}
        progress.rest()
        for digest, path in {digest: path for path, digest in digests.items()}.items():
            upload(client, progress, digest, path)
    return {**recipe.fields(), **files.fields(digests)}


def digest_of(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def upload(client: Client, progress: Progress, digest: str, path: Path) -> None:
    """Send the file ``path`` to the server unless it has the blob ``digest``."""
    address = f"/api/blobs/{digest}"
    if client.has(address):
        return
    size = path.stat().st_size
    message = f"copying file {digest[:_SHOWN]}"
    progress.bar(digest, message, size, 0)
    with path.open("rb") as file:
        client.upload(address, file, size, lambda sent: progress.bar(digest, message, size, sent))
