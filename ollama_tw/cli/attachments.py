"""Images and audio that a prompt names by their paths.

Source: ollama: cmd/interactive.go, extractFileData, extractFileNames, getImageData.
"""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from ollama_tw.errors import OllamaError, reason_of

_URL = "file://"
# A path on one line: its beginning, and its end. Ollama has one expression, which is quadratic.
_LINE = re.compile(r"[\S ]+")
_BEGINNING = re.compile(r"(?:file://)?(?:[a-zA-Z]:)?(?:\.\.?/|~/|/|\\)")
_END = re.compile(r"\.(?:jpg|jpeg|png|webp|wav)\b", re.IGNORECASE)
_MAX_BYTES = 100 * 1024 * 1024
_ESCAPED = re.compile(r"\\([ ()\[\]{}$&;'?*\"`~])")


def extract(prompt: str, note: Callable[[str], None]) -> tuple[str, list[str]]:
    """Return ``prompt`` without the paths of files that exist, and their contents in base64.

    ``note`` gets a line for each file. Raises OllamaError for a file that cannot be sent.
    """
    contents: list[str] = []
    for written in paths_in(prompt):
        path = _path(written)
        if path is None:
            continue
        contents.append(base64.b64encode(_contents(path)).decode())
        kind = "audio" if path.suffix.lower() == ".wav" else "image"
        note(f"Added {kind} '{path}'")
        for text in (f"'{written}'", f'"{written}"', written):
            prompt = prompt.replace(text, "")
    return prompt.strip(), contents


def paths_in(text: str) -> list[str]:
    """Return what in ``text`` looks like the path of an image or of audio."""
    found = []
    for line in _LINE.findall(text):
        position = 0
        while begin := _BEGINNING.search(line, position):
            # At least one character stands between them.
            end = _END.search(line, begin.end() + 1)
            if end is None:
                break
            found.append(line[begin.start() : end.end()])
            position = end.end()
    return found


def is_file(written: str) -> bool:
    """Return whether ``written``, a path as it stands in a prompt, is that of a file."""
    return _path(written) is not None


def _path(written: str) -> Path | None:
    """Return the file that is meant: a path with escaped blanks, as terminals paste it, or a URL."""
    if written.startswith(_URL):
        path = Path(unquote(written.removeprefix(_URL)))
    else:
        path = Path(_ESCAPED.sub(r"\1", written))
    try:
        path = path.expanduser()
        return path if path.is_file() else None
    except (RuntimeError, OSError, ValueError):
        # There is no such user, or no file has such a name.
        return None


def _contents(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise OllamaError(0, f"file size exceeds maximum limit (100MB): {path}")
        data = path.read_bytes()
    except OSError as error:
        raise OllamaError(0, f"couldn't read '{path}': {reason_of(error)}") from error
    if not _is_supported(data):
        raise OllamaError(0, f"invalid image type: '{path}' is neither JPEG, PNG, WebP nor WAV")
    return data


def _is_supported(data: bytes) -> bool:
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return True
    return data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"WAVE")
