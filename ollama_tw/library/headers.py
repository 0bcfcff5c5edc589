"""Cache of GGUF headers by the digest of their blob, whose content never changes."""

import threading
from collections import OrderedDict

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import GGUFError, Header, read_header
from ollama_tw.library.blobs import BlobStore


class HeaderCache:
    """LRU cache of at most ``limit`` headers, full or ``brief`` (see :func:`read_header`). Thread-safe."""

    def __init__(self, blobs: BlobStore, *, limit: int, brief: bool) -> None:
        self._blobs = blobs
        self._limit = limit
        self._brief = brief
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Header] = OrderedDict()

    def get(self, digest: str) -> Header:
        """Return the header of the GGUF blob ``digest``; raises OllamaError 500 if it cannot be read."""
        with self._lock:
            header = self._kept.get(digest)
            if header is not None:
                self._kept.move_to_end(digest)
                return header
        path = self._blobs.require(digest)
        try:
            header = read_header(path, brief=self._brief)
        except GGUFError as error:
            raise OllamaError(500, str(error)) from error
        except OSError as error:
            raise OllamaError(500, f'blob "{digest}" cannot be read') from error
        with self._lock:
            self._kept[digest] = header
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return header
