"""Merging of models that llama.cpp's ``gguf-split`` has split into several GGUF files.

Source: ollama: server/create_split_gguf.go; llama.cpp: tools/gguf-split/gguf-split.cpp.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.copy import copied_metadata, copy_gguf
from ollama_tw.gguf.reader import GGUFError, Header
from ollama_tw.library.create.dependencies import Write

_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.ASCII | re.DOTALL)
_KEYS = "split."


@dataclass(frozen=True)
class _Shard:
    """Shard ``number``, from 1, of the ``count`` shards of ``model``."""

    model: str
    number: int
    count: int
    header: Header


def is_shard(header: Header) -> bool:
    """Return whether the file is one of several shards of a model."""
    count = _integer(header, "split.count")
    return count is not None and count > 1


def ordered_shards(headers: Mapping[str, Header]) -> list[list[Header]]:
    """Group the headers of shards, by relative path, into models and order them.

    Raises OllamaError 400 if name and metadata contradict each other or a shard is missing.
    """
    models: dict[str, list[_Shard]] = {}
    for path, header in headers.items():
        shard = _shard(path, header)
        models.setdefault(shard.model, []).append(shard)
    return [_in_order(model, shards) for model, shards in models.items()]


def merge(shards: list[Header], write: Write) -> None:
    """Pass the merged model to ``write``; raises OllamaError 400, OSError, and what ``write`` raises."""
    declared = _integer(shards[0], "split.tensors.count")
    found = sum(len(shard.tensors) for shard in shards)
    if declared is not None and declared != found:
        raise OllamaError(400, f"split GGUF declares {declared} tensors, but has {found}")
    try:
        copy_gguf(write, copied_metadata(shards[0], without=_KEYS), shards)
    except GGUFError as error:
        raise OllamaError(400, str(error)) from error


def _shard(path: str, header: Header) -> _Shard:
    name = path.rpartition("/")[2]
    match = _NAME.fullmatch(name)
    if match is None:
        raise _error(name, "must use llama.cpp split filename pattern")
    number, count = int(match[2]), int(match[3])
    declared = _integer(header, "split.count")
    if count != declared:
        raise _error(name, f"filename count {count} does not match metadata count {declared}")
    index = _integer(header, "split.no")
    if index is None:
        raise _error(name, "is missing split.no metadata")
    if number != index + 1:
        raise _error(name, f"filename index {number} does not match metadata index {index + 1}")
    return _Shard(match[1], number, count, header)


def _in_order(model: str, shards: Iterable[_Shard]) -> list[Header]:
    by_number: dict[int, _Shard] = {}
    for shard in shards:
        if shard.number in by_number:
            raise OllamaError(400, f"split GGUF has duplicate shard index {shard.number}")
        by_number[shard.number] = shard
    count = max(shard.count for shard in by_number.values())
    if len(by_number) != count or any(shard.count != count for shard in by_number.values()):
        raise _error(model, f"has {len(by_number)} shards, expected {count}")
    if sorted(by_number) != list(range(1, count + 1)):
        raise _error(model, f"has a shard index that is not 1 to {count}")
    return [by_number[number].header for number in sorted(by_number)]


def _integer(header: Header, key: str) -> int | None:
    value = header.metadata.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _error(file: str, fault: str) -> OllamaError:
    return OllamaError(400, f'split GGUF "{file}" {fault}')
