"""Copying of GGUF files: merge the shards of a split file, or replace metadata keys.

Metadata is copied byte for byte and tensors are streamed, so that memory is bounded by the header.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ollama_tw.files import open_regular
from ollama_tw.gguf.reader import DEFAULT_ALIGNMENT, GGUFError, Header, Tensor, encoded_metadata
from ollama_tw.gguf.types import TENSOR_TYPES
from ollama_tw.gguf.writer import Encoded, NewTensor, write_gguf

_CHUNK_BYTES = 1 << 20
_MAX_ALIGNMENT = 1 << 20
_TYPE_NUMBERS = {type_: number for number, type_ in TENSOR_TYPES.items()}


def copied_metadata(header: Header, *, without: str = "\0") -> dict[str, Encoded]:
    """Read the file's metadata in file order, except keys that begin with ``without``.

    Raises GGUFError, and OSError if the file cannot be read.
    """
    return {
        key: Encoded(kind, payload)
        for key, (kind, payload) in encoded_metadata(header).items()
        if not key.startswith(without)
    }


def copy_gguf(
    write: Callable[[bytes | memoryview], object], metadata: Mapping[str, Encoded], headers: Sequence[Header]
) -> None:
    """Pass one file with ``metadata`` and the tensors of all ``headers``, in order, to ``write``.

    The alignment is that of the first header. Raises GGUFError for files that cannot be merged,
    OSError, and what ``write`` raises.
    """
    if any(header.big_endian for header in headers):
        raise GGUFError("big-endian GGUF files cannot be rewritten; convert the file to little-endian first")
    alignment = headers[0].metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment > _MAX_ALIGNMENT:
        raise GGUFError(f"general.alignment is more than {_MAX_ALIGNMENT} bytes")
    _check_unique_names(header.tensors for header in headers)
    for header in headers:
        _check_overlap(header)
    tensors = [_copied(header, tensor) for header in headers for tensor in header.tensors]
    write_gguf(write, metadata, tensors, alignment=alignment)


def _check_unique_names(tables: Iterable[Iterable[Tensor]]) -> None:
    names = set()
    for tensor in (tensor for table in tables for tensor in table):
        if tensor.name in names:
            raise GGUFError(f'tensor "{tensor.name}" appears twice')
        names.add(tensor.name)


def _check_overlap(header: Header) -> None:
    """Raise GGUFError if tensors share bytes: copied one by one they could fill any disk."""
    end = 0
    for tensor in sorted(header.tensors, key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset < end:
            raise GGUFError(f'tensor "{tensor.name}" overlaps another one')
        end = tensor.offset + tensor.size


def _copied(header: Header, tensor: Tensor) -> NewTensor:
    def chunks() -> Iterator[bytes]:
        with open_regular(header.path) as file:
            file.seek(header.data_offset + tensor.offset, os.SEEK_SET)
            left = tensor.size
            while left:
                chunk = file.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    raise GGUFError(f'the file ends within tensor "{tensor.name}"')
                left -= len(chunk)
                yield chunk

    return NewTensor(tensor.name, _TYPE_NUMBERS[tensor.type], tensor.shape, tensor.size, chunks)
