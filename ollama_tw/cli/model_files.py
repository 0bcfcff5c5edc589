"""Models among files on disk: which files belong together, and what the models are called. Blocking."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ollama_tw.cli.command import UsageError
from ollama_tw.gguf.reader import is_gguf
from ollama_tw.library.modelfile.local import files_of
from ollama_tw.library.modelfile.parser import ModelfileError

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$", re.ASCII)
# "Q4_K_M", "IQ2_XXS", "UD-Q4_K_XL", "BF16", "MXFP4_MOE", "TQ1_0" at the end of a file's name.
_TYPE = re.compile(r"[-_.]((?:ud-)?(?:i?q\d\w*|b?f16|f32|mxfp4\w*|tq\d_\d))$", re.ASCII | re.IGNORECASE)
_PROJECTOR = re.compile(r"mmproj", re.IGNORECASE)
_OTHER = re.compile(r"[^a-z0-9_.-]+")
_LONGEST_PART = 80


@dataclass(frozen=True)
class ModelFiles:
    """A model: its name, and its files, the model file or its first shard at the beginning."""

    name: str
    files: tuple[Path, ...]


def find_models(paths: Iterable[Path]) -> list[ModelFiles]:
    """Return the models in ``paths``: GGUF files, directories with such files, or with safetensors.

    The projector of a vision model is the file named ``mmproj`` beside it. Raises UsageError for a path
    without a model, and for two models of one name; OSError.
    """
    files: dict[Path, None] = {}
    models: list[ModelFiles] = []
    for path in paths:
        if path.is_dir():
            _refuse_store(path)
            found = sorted(file for file in path.rglob("*.gguf") if file.is_file())
            if not found:
                models.append(_checkpoint(path))
            files |= dict.fromkeys(found)
        elif path.is_file():
            if path.suffix.lower() != ".gguf" and not is_gguf(path):
                raise UsageError(f"{path} is not a GGUF file")
            files[path] = None
        else:
            raise UsageError(f"no such file or directory: {path}")
    models += _grouped(files)
    if not models:
        raise UsageError("a projector (mmproj) is not a model of its own: name the model file, too")
    for at, model in enumerate(models):
        for other in models[:at]:
            if other.name == model.name:
                raise UsageError(
                    f"{other.files[0]} and {model.files[0]} would both be named '{model.name}': "
                    "import one of them with --name"
                )
    return models


def _refuse_store(directory: Path) -> None:
    """Raise UsageError for the models directory of a server, or the folder that it lies in."""
    for one in (directory, directory / "models"):
        if (one / "blobs").is_dir() and (one / "manifests").is_dir():
            raise UsageError(
                f"{one} is the models directory of a server: copy what is in it into that of this one "
                "(OLLAMA_MODELS, ~/.ollama/models), which may be running"
            )


def model_name(stem: str) -> str:
    """Return the name of the model in a file called ``stem``, with its quantization as the tag."""
    stem = _SHARD.sub("", stem)
    found = _TYPE.search(stem)
    model, tag = (stem[: found.start()], found[1]) if found else (stem, "")
    return _part(model) + (f":{_part(tag)}" if tag else "")


def _part(text: str) -> str:
    return _OTHER.sub("-", text.lower()).strip("-.")[:_LONGEST_PART] or "model"


def _checkpoint(directory: Path) -> ModelFiles:
    try:
        files = files_of(directory)
    except ModelfileError as error:
        raise UsageError(f"no GGUF and no safetensors files in {directory}") from error
    return ModelFiles(_part(directory.resolve().name), tuple(files))


def _grouped(files: Iterable[Path]) -> list[ModelFiles]:
    """Join the shards of a model, and each model with the projector in its directory."""
    projectors: defaultdict[Path, list[Path]] = defaultdict(list)
    models: defaultdict[tuple[Path, str], list[Path]] = defaultdict(list)
    for file in files:
        if _PROJECTOR.search(file.name):
            projectors[file.parent].append(file)
        else:
            models[file.parent, _SHARD.sub("", file.stem)].append(file)
    return [
        ModelFiles(model_name(stem), (*_whole(shards), *_projector(projectors[directory])))
        for (directory, stem), shards in models.items()
    ]


def _whole(shards: Sequence[Path]) -> list[Path]:
    """Return the shards in order, with those that were not named; raises UsageError if one is missing."""
    found = _SHARD.search(shards[0].stem)
    if found is None:
        return list(shards)
    first = shards[0].stem[: found.start()]
    every = [
        shards[0].with_name(f"{first}-{number:05}-of-{found[2]}{shards[0].suffix}")
        for number in range(1, int(found[2]) + 1)
    ]
    for file in every:
        if not file.is_file():
            raise UsageError(f"the model has {int(found[2])} files, of which one is missing: {file}")
    return every


def _projector(candidates: Sequence[Path]) -> list[Path]:
    """Return the projector to use, in F16 if there are several."""
    half = [file for file in candidates if "bf16" not in file.name.lower() and "f16" in file.name.lower()]
    return sorted(half or candidates)[:1]
