"""GGUF files made of others: the shards of a split file as one, or a file with another key.

Metadata is copied byte for byte and tensors are streamed, so that memory holds the header alone.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ollama_tw.files import open_regular
from ollama_tw.gguf.reader import DEFAULT_ALIGNMENT, GGUFError, Header, Tensor, encoded_metadata
from ollama_tw.gguf.types import TENSOR_TYPES
from ollama_tw.gguf.writer import Encoded, NewTensor, write_gguf

_PIECE = 1 << 20
_MAX_ALIGNMENT = 1 << 20
_TYPE_NUMBERS = {type_: number for number, type_ in TENSOR_TYPES.items()}


def copied_metadata(header: Header, *, without: str = "\0") -> dict[str, Encoded]:
    """The file's metadata, in its order, but for the keys that begin with ``without``.

    Raises GGUFError, and OSError where the file cannot be read.
    """
    return {
        key: Encoded(kind, payload)
        for key, (kind, payload) in encoded_metadata(header).items()
        if not key.startswith(without)
    }


def copy_gguf(
    write: Callable[[bytes | memoryview], object], metadata: Mapping[str, Encoded], headers: Sequence[Header]
) -> None:
    """Pass one file to ``write`` that has ``metadata`` and the tensors of all ``headers``, in order.

    ``metadata`` and the alignment are those of the first. Raises GGUFError for files that cannot be
    put together, OSError, and what ``write`` raises.
    """
    if any(header.big_endian for header in headers):
        raise GGUFError("a big-endian GGUF file cannot be written anew; convert it to little-endian first")
    alignment = headers[0].metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment > _MAX_ALIGNMENT:
        raise GGUFError(f"the tensors of the file are aligned to more than {_MAX_ALIGNMENT} bytes")
    _refuse_doubles(header.tensors for header in headers)
    for header in headers:
        _refuse_overlap(header)
    tensors = [_copied(header, tensor) for header in headers for tensor in header.tensors]
    write_gguf(write, metadata, tensors, alignment=alignment)


def _refuse_doubles(tables: Iterable[Iterable[Tensor]]) -> None:
    names = set()
    for tensor in (tensor for table in tables for tensor in table):
        if tensor.name in names:
            raise GGUFError(f'tensor "{tensor.name}" appears twice')
        names.add(tensor.name)


def _refuse_overlap(header: Header) -> None:
    """Tensors that share their bytes would make the copy larger than any disk."""
    end = 0
    for tensor in sorted(header.tensors, key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset < end:
            raise GGUFError(f'tensor "{tensor.name}" overlaps another one')
        end = tensor.offset + tensor.size


def _copied(header: Header, tensor: Tensor) -> NewTensor:
    def pieces() -> Iterator[bytes]:
        with open_regular(header.path) as file:
            file.seek(header.data_offset + tensor.offset, os.SEEK_SET)
            left = tensor.size
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise GGUFError(f'tensor "{tensor.name}" ends before its end')
                left -= len(piece)
                yield piece

    return NewTensor(tensor.name, _TYPE_NUMBERS[tensor.type], tensor.shape, tensor.size, pieces)
