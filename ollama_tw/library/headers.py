"""GGUF headers kept in memory by the digest of their file, which never changes its content."""

import threading
from collections import OrderedDict

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import GGUFError, Header, read_header
from ollama_tw.library.blobs import BlobStore


class HeaderCache:
    """The ``limit`` most recently used headers, whole or ``brief`` (see :func:`read_header`)."""

    def __init__(self, blobs: BlobStore, *, limit: int, brief: bool) -> None:
        self._blobs = blobs
        self._limit = limit
        self._brief = brief
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Header] = OrderedDict()

    def get(self, digest: str) -> Header:
        """The header of the GGUF blob ``digest``; OllamaError 500 where there is none to be had."""
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
