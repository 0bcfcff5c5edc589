"""Fake converters and quantizer that record their calls."""

from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import gguf

from ollama_tw.gguf.reader import Header
from ollama_tw.library.create import Write
from tests.helpers.gguf_files import write_gguf, write_lora

FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "Q4_K_S": 14, "Q4_K_M": 15, "BF16": 32}


class FakeQuantizer:
    """Writes the file of :func:`write_gguf` with another file type; ``fails`` is raised instead."""

    def __init__(self, fails: Callable[[], None] = lambda: None) -> None:
        self.asked: list[str] = []
        self.closed = 0
        self._fails = fails

    def __call__(self, source: Path, target: Path, file_type: str) -> Generator[str, None, None]:
        self.asked.append(file_type)
        try:
            yield "token_embd.weight"
            yield ""
            yield "output_norm.weight"
            self._fails()
            reader = gguf.GGUFReader(source)
            architecture = reader.fields["general.architecture"].contents()
            write_gguf(target, architecture=architecture, file_type=FILE_TYPES[file_type])
        finally:
            self.closed += 1


class FakeConverter:
    """Writes the file of :func:`write_gguf`; ``files`` are those that were converted."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self.files: dict[str, bytes] = {}
        self.base = ""

    def model(self, files: Mapping[str, Path], write: Write, *, file_type: str = "F16") -> None:
        path = self._scratch / "converted"
        kind = FILE_TYPES[file_type]
        self._write(files, write, write_gguf(path, file_type=kind, chat_template="{{ chat }}"))

    def adapter(self, files: Mapping[str, Path], base: Header, write: Write) -> None:
        self.base = base.architecture
        self._write(files, write, write_lora(self._scratch / "converted"))

    def _write(self, files: Mapping[str, Path], write: Write, converted: Path) -> None:
        self.files = {path: file.read_bytes() for path, file in files.items()}
        data = converted.read_bytes()
        write(data[:100])
        write(memoryview(data)[100:])
