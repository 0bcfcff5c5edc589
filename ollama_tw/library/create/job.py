"""State of one creation: layers, config, and the writing of blobs of weights."""

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.files import open_regular
from ollama_tw.gguf.reader import GGUFError, Header, read_header
from ollama_tw.library.create.dependencies import CreateDependencies, Write
from ollama_tw.library.layers import LayerList
from ollama_tw.library.store import Store

Record = dict[str, Any]

CheckCancelled = Callable[[], object]
"""Called frequently during the work; raises Cancelled if the creation has been cancelled."""

# Ollama's placeholder for the digest of a file that is not complete.
_NO_DIGEST = "0000000000000000000"
_CHUNK_BYTES = 1 << 20


@dataclass
class CreationJob:
    """One creation.

    ``families`` are the architectures of the model's files. ``converted_types`` maps digests of
    blobs converted in this creation to their file types; ``imported`` has the digests of uploaded
    files that became layers unchanged.
    """

    store: Store
    dependencies: CreateDependencies
    check_cancelled: CheckCancelled
    layers: LayerList
    config: dict[str, Any]
    families: list[str] = field(default_factory=list)
    converted_types: dict[str, str] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)

    def write_blob(self, make: Callable[[Write], None]) -> str:
        """Store what ``make`` passes to its argument as a blob and return the digest.

        Raises Cancelled, OSError, and what ``make`` raises; then nothing is stored.
        """
        writer = self.store.blobs.writer()

        def write(data: bytes | memoryview) -> None:
            self.check_cancelled()
            writer.write(data)

        try:
            make(write)
        except BaseException:
            writer.abort()
            raise
        self.layers.reserve(writer.digest)
        return writer.commit()[0]

    def quantize_blob(self, digest: str, source: str, requested_type: str) -> Generator[Record, None, str]:
        """Quantize the blob ``digest``, whose file type is ``source``, to the file type ``requested_type``.

        Yields progress records and returns the digest of the new blob. Raises OllamaError 500,
        Cancelled, OSError.
        """
        header = self.store.header_of(digest)
        status = f"quantizing {source} model to {requested_type}"
        sizes = {tensor.name: tensor.size for tensor in header.tensors}
        total, completed = self.store.blobs.size(digest) or 0, 0
        with self.store.blobs.scratch(requested_type) as target:
            with closing(self.dependencies.quantize(header.path, target, requested_type)) as names:
                for name in names:
                    self.check_cancelled()
                    if name:
                        yield progress(status, total, completed)
                        completed += sizes.get(name, 0)
            yield progress(status, total, total)
            yield {"status": "verifying conversion"}
            self._verify(target, header)
            return self._adopt(target)

    def _verify(self, result: Path, source: Header) -> None:
        try:
            tensors = {tensor.name: tensor.shape for tensor in read_header(result).tensors}
        except GGUFError as error:
            raise OllamaError(500, f"llama-quantize failed: {error}") from error
        if tensors != {tensor.name: tensor.shape for tensor in source.tensors}:
            raise OllamaError(
                500, "llama-quantize failed: the tensors of the result differ from those of the model"
            )

    def _adopt(self, path: Path) -> str:
        """Make the file a blob and return its digest."""
        state = hashlib.sha256()
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                self.check_cancelled()
                state.update(chunk)
            digest = f"sha256:{state.hexdigest()}"
            self.layers.reserve(digest)
            self.store.blobs.place(path, file.fileno(), digest)
        return digest


def progress(status: str, total: int, completed: int) -> Record:
    """Return a progress record in bytes; as in all of Ollama's records, ``completed`` 0 is omitted."""
    record: Record = {"status": status, "digest": _NO_DIGEST, "total": total}
    if completed:
        record["completed"] = completed
    return record
