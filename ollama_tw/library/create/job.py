"""A model on its way: its layers, what is known of its config, and how blobs of weights are made."""

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.files import open_regular
from ollama_tw.gguf.reader import GGUFError, Header, read_header
from ollama_tw.library.create.dependencies import Makers, Write
from ollama_tw.library.layers import LayerList
from ollama_tw.library.store import Store

Record = dict[str, Any]

Alive = Callable[[], object]
"""Called often while there is work; raises Cancelled where nobody waits for it any more."""

# Ollama's stand-in for the digest of a file that is not complete yet.
_NO_DIGEST = "0000000000000000000"
_PIECE = 1 << 20


@dataclass
class Making:
    """One creation. ``made_as`` has the file type of each blob that was converted here, ``imported``
    the digests of uploaded files that became layers as they are."""

    store: Store
    makers: Makers
    alive: Alive
    layers: LayerList
    config: dict[str, Any]
    families: list[str] = field(default_factory=list)
    made_as: dict[str, str] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)

    def written(self, make: Callable[[Write], None]) -> str:
        """The digest of a new blob with what ``make`` passes to its argument."""
        writer = self.store.blobs.writer()

        def write(data: bytes | memoryview) -> None:
            self.alive()
            writer.write(data)

        try:
            make(write)
        except BaseException:
            writer.abort()
            raise
        self.layers.announce(writer.digest)
        return writer.commit()[0]

    def quantized(self, digest: str, source: str, wanted: str) -> Generator[Record, None, str]:
        """Quantize the blob ``digest``, a model whose weights are in ``source``, to ``wanted``; yields
        the records of its progress and returns the digest of the result."""
        header = self.store.header_of(digest)
        status = f"quantizing {source} model to {wanted}"
        sizes = {tensor.name: tensor.size for tensor in header.tensors}
        total, completed = self.store.blobs.size(digest) or 0, 0
        with self.store.blobs.scratch(wanted) as target:
            with closing(self.makers.quantize(header.path, target, wanted)) as names:
                for name in names:
                    self.alive()
                    if name:
                        yield progress(status, total, completed)
                        completed += sizes.get(name, 0)
            yield progress(status, total, total)
            yield {"status": "verifying conversion"}
            self._verify(target, header)
            return self._adopted(target)

    def _verify(self, result: Path, source: Header) -> None:
        try:
            tensors = {tensor.name: tensor.shape for tensor in read_header(result).tensors}
        except GGUFError as error:
            raise OllamaError(500, f"llama-quantize failed: {error}") from error
        if tensors != {tensor.name: tensor.shape for tensor in source.tensors}:
            raise OllamaError(500, "llama-quantize failed: the result has other tensors than the model")

    def _adopted(self, path: Path) -> str:
        """The digest of the file, which becomes a blob."""
        state = hashlib.sha256()
        with open_regular(path) as file:
            while piece := file.read(_PIECE):
                self.alive()
                state.update(piece)
            digest = f"sha256:{state.hexdigest()}"
            self.layers.announce(digest)
            self.store.blobs.place(path, file.fileno(), digest)
        return digest


def progress(status: str, total: int, completed: int) -> Record:
    """A record of work on a file of ``total`` bytes; as everywhere, no ``completed`` means 0."""
    record: Record = {"status": status, "digest": _NO_DIGEST, "total": total}
    if completed:
        record["completed"] = completed
    return record
