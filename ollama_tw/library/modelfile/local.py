"""Local files that a Modelfile refers to. Blocking.

Source: ollama: parser/parser.go, Modelfile.CreateRequest, filesForModel.
"""

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ollama_tw.errors import reason_of
from ollama_tw.library.modelfile.parser import Instruction, ModelfileError, parse_modelfile
from ollama_tw.library.modelfile.recipe import Recipe

_ZIP: Final = "application/zip"
_BINARY: Final = "application/octet-stream"
_TEXT: Final = "text/plain"
_SNIFFED_BYTES = 512
_ZIP_MAGIC = b"PK\x03\x04"
_BINARY_BYTES = bytes({*range(0x20)} - {*b"\t\n\x0c\r\x1b"})

# The first group with files in a directory is its weights; the content type is None if it is not checked.
_WEIGHTS: tuple[tuple[tuple[str, ...], str | None], ...] = (
    (("model*.safetensors", "*/model*.safetensors"), None),
    (("consolidated*.safetensors",), None),
    (("adapters.safetensors",), None),
    (("adapter_model.safetensors",), None),
    (("pytorch_model*.bin",), _ZIP),
    (("consolidated*.pth",), _ZIP),
    (("*.gguf",), _BINARY),
    (("*.bin",), _BINARY),
)
_DESCRIPTIONS = ("*.json", "*/*.json", "chat_template.jinja")
_TOKENIZERS = ("tokenizer.model", "*/tokenizer.model")


@dataclass(frozen=True)
class LocalFiles:
    """Files of a recipe.

    ``base`` is the name of the base model, "" if there is none. The keys are the file names of the
    create request: paths with slashes, relative to the deepest common directory.
    """

    base: str
    files: Mapping[str, Path]
    draft_files: Mapping[str, Path]
    adapters: Mapping[str, Path]

    def paths(self) -> tuple[Path, ...]:
        """Return all files, without duplicates."""
        groups = (self.files, self.draft_files, self.adapters)
        return tuple(dict.fromkeys(path for group in groups for path in group.values()))

    def fields(self, digests: Mapping[Path, str]) -> dict[str, Any]:
        """Return the fields of the create request; ``digests`` has the digests of :meth:`paths`."""
        fields: dict[str, Any] = {"from": self.base} if self.base else {}
        for key in ("files", "draft_files", "adapters"):
            if group := getattr(self, key):
                fields[key] = {name: digests[path] for name, path in group.items()}
        return fields


def load_modelfile(path: Path, *, working_directory: Path) -> tuple[tuple[Instruction, ...], Path]:
    """Read the Modelfile at ``path``; return its instructions and the directory of its paths.

    An absent file means ``FROM .`` in the working directory. Raises ModelfileError, OSError.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return parse_modelfile("FROM ."), working_directory
    return parse_modelfile(data), path.absolute().parent


def find_files(recipe: Recipe, directory: Path) -> LocalFiles:
    """Find the files of ``recipe``, whose paths are relative to ``directory``.

    Raises ModelfileError, also for a file that cannot be accessed.
    """
    base, files, sources = "", list[Path](), set[Path]()
    for value in recipe.bases:
        path = expand(value, directory)
        if not _exists(path):
            base = value
            continue
        sources.add(path.resolve())
        files += files_of(path)
    drafts: list[Path] = []
    for value in recipe.drafts:
        path = _existing(value, directory)
        if path.resolve() in sources:
            raise ModelfileError(f"DRAFT must not reference the same local path as FROM: {path}")
        drafts += files_of(path)
    adapters: list[Path] = []
    for value in recipe.adapters:
        adapters = files_of(_existing(value, directory))
    return LocalFiles(base, named(files), named(drafts), named(adapters))


def expand(value: str, directory: Path) -> Path:
    """Expand ``~`` and make ``value`` relative to ``directory``; ModelfileError for an unknown user."""
    if value.startswith("~"):
        user = value[1:].partition("/")[0]
        try:
            return Path(value).expanduser()
        except RuntimeError as error:
            raise ModelfileError(f"failed to find user '{user}': user: unknown user {user}") from error
    if value.startswith(("/", "\\")):
        return Path(value)
    return directory / value


def files_of(path: Path) -> list[Path]:
    """Return ``path`` itself, or the files of the model in the directory ``path``, symbolic links resolved.

    Raises ModelfileError for a directory without weights, or with links that lead out of it.
    """
    if not path.is_dir():
        return [path]
    found: list[Path] = []
    for patterns, required_type in _WEIGHTS:
        found = _matches(path, patterns)
        if found and all(required_type in (None, content_type(file)) for file in found):
            break
    else:
        raise ModelfileError("no Modelfile or safetensors files found")
    descriptions = _matches(path, _DESCRIPTIONS)
    for file in descriptions:
        if content_type(file) != _TEXT:
            raise ModelfileError(f"invalid content type: expected {_TEXT} for {file}")
    tokenizers = next((files for pattern in _TOKENIZERS if (files := _matches(path, (pattern,)))), [])
    root = path.resolve()
    return [_inside(root, file) for file in (*found, *descriptions, *tokenizers)]


def content_type(path: Path) -> str:
    """Return the content type by the first bytes of a file: a ZIP archive, plain text, or binary.

    Raises ModelfileError if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFFED_BYTES)
    except OSError as error:
        raise _failure("open", path, error) from error
    if start.startswith(_ZIP_MAGIC):
        return _ZIP
    return _BINARY if start.translate(None, _BINARY_BYTES) != start else _TEXT


def _matches(directory: Path, patterns: Iterable[str]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(directory.glob(pattern)) if not path.is_dir()]


def _inside(root: Path, file: Path) -> Path:
    resolved = file.resolve()
    if resolved.is_relative_to(root):
        return resolved
    relative = os.path.relpath(resolved, root)
    hint = "\n\nUse --local-dir if downloading with huggingface-cli" if ".cache" in relative else ""
    raise ModelfileError(f"insecure path: {relative}{hint}")


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        # A value that is longer than any path is a model name.
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise _failure("stat", path, error) from error
    return True


def _existing(value: str, directory: Path) -> Path:
    path = expand(value, directory)
    if not _exists(path):
        raise _failure("stat", path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    return path


def _failure(action: str, path: Path, error: OSError) -> ModelfileError:
    return ModelfileError(f"{action} {path}: {reason_of(error)}")


def named(files: Iterable[Path]) -> dict[str, Path]:
    """Return the files by their names in a create request, relative to the deepest common directory."""
    paths = list(dict.fromkeys(files))
    if not paths:
        return {}
    common = Path(os.path.commonpath([path.parent.absolute() for path in paths]))
    return {path.absolute().relative_to(common).as_posix(): path for path in paths}
