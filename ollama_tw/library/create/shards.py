"""Models in several GGUF files, as llama.cpp's ``gguf-split`` makes them, put together again.

Source: ``spec/models-and-cli.md`` section 4.7; llama.cpp's ``split.no``, ``split.count`` and
``split.tensors.count``.
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
    """``number`` counts from 1."""

    model: str
    number: int
    count: int
    header: Header


def is_shard(header: Header) -> bool:
    """Whether the file is one of several that make up a model."""
    count = _integer(header, "split.count")
    return count is not None and count > 1


def ordered_shards(headers: Mapping[str, Header]) -> list[list[Header]]:
    """The shards of each model, in order, from the headers of all shards by their relative paths.

    Raises OllamaError 400 where names and metadata contradict each other or a shard is missing.
    """
    models: dict[str, list[_Shard]] = {}
    for path, header in headers.items():
        shard = _described(path, header)
        models.setdefault(shard.model, []).append(shard)
    return [_in_order(model, shards) for model, shards in models.items()]


def merge(shards: list[Header], write: Write) -> None:
    """Pass the whole model to ``write``; raises OllamaError 400, and what ``write`` raises."""
    promised = _integer(shards[0], "split.tensors.count")
    found = sum(len(shard.tensors) for shard in shards)
    if promised is not None and promised != found:
        raise OllamaError(400, f"the split GGUF declares {promised} tensors and has {found}")
    try:
        copy_gguf(write, copied_metadata(shards[0], without=_KEYS), shards)
    except GGUFError as error:
        raise OllamaError(400, str(error)) from error


def _described(path: str, header: Header) -> _Shard:
    name = path.rpartition("/")[2]
    match = _NAME.fullmatch(name)
    if match is None:
        raise _refusal(name, "must use llama.cpp split filename pattern")
    number, count = int(match[2]), int(match[3])
    declared = _integer(header, "split.count")
    if count != declared:
        raise _refusal(name, f"filename count {count} does not match metadata count {declared}")
    index = _integer(header, "split.no")
    if index is None:
        raise _refusal(name, "is missing split.no metadata")
    if number != index + 1:
        raise _refusal(name, f"filename index {number} does not match metadata index {index + 1}")
    return _Shard(match[1], number, count, header)


def _in_order(model: str, shards: Iterable[_Shard]) -> list[Header]:
    by_number: dict[int, _Shard] = {}
    for shard in shards:
        if shard.number in by_number:
            raise OllamaError(400, f"split GGUF has duplicate shard index {shard.number}")
        by_number[shard.number] = shard
    count = max(shard.count for shard in by_number.values())
    if len(by_number) != count or any(shard.count != count for shard in by_number.values()):
        raise _refusal(model, f"has {len(by_number)} shards, expected {count}")
    if sorted(by_number) != list(range(1, count + 1)):
        raise _refusal(model, f"has a shard index that is not 1 to {count}")
    return [by_number[number].header for number in sorted(by_number)]


def _integer(header: Header, key: str) -> int | None:
    value = header.metadata.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _refusal(file: str, fault: str) -> OllamaError:
    return OllamaError(400, f'split GGUF "{file}" {fault}')
