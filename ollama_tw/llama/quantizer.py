"""Quantizing a model in a child process, seen from the server: it imports no llama.cpp.

Source of the texts: ``spec/models-and-cli.md`` section 4.3.
"""

import errno
import json
import logging
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from ollama_tw.errors import OllamaError
from ollama_tw.llama.quantize import UNAVAILABLE

_log = logging.getLogger("ollama_tw.llama")

# Seconds after which the caller is asked whether to go on, if nothing comes from the child.
_PATIENCE = 0.2

# A disk with less space than this has refused the rest of the file.
_FULL = 1 << 20
_MAX_TEXT = 300

# Each takes all processors and a gigabyte: two at once would both be slower.
_one_at_a_time = threading.Lock()


def quantize(source: Path, target: Path, file_type: str) -> Generator[str, None, None]:
    """Write the GGUF model ``source`` to the existing file ``target`` with its weights in ``file_type``.

    Yields the name of each tensor when its turn comes, and "" several times a second meanwhile;
    closing it kills the child. One model is quantized at a time, others wait. Blocking. Raises
    OllamaError 500, and OSError where the disk is full.
    """
    while not _one_at_a_time.acquire(timeout=_PATIENCE):
        yield ""
    try:
        yield from _quantize(source, target, file_type)
    finally:
        _one_at_a_time.release()


def _quantize(source: Path, target: Path, file_type: str) -> Generator[str, None, None]:
    command = [sys.executable, "-P", "-m", "ollama_tw.llama.quantize", str(source), str(target), file_type]
    said = ""
    with _child(command) as child:
        for line in _lines(child):
            record = _record(line)
            if record is None:
                said = line or said
                yield ""
            elif "tensor" in record:
                yield record["tensor"]
            else:
                said = record.get("error", "")
        status = child.wait()
    if status == 0:
        return
    _log.warning("quantizing ended with status %d: %s", status, said)
    if shutil.disk_usage(target.parent).free < _FULL:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if status == UNAVAILABLE:
        raise OllamaError(500, "llama-quantize unavailable: llama-cpp-python cannot be used")
    if status < 0:
        raise OllamaError(500, f"llama-quantize failed: it was ended by {signal.Signals(-status).name}")
    raise OllamaError(500, f"llama-quantize failed: {_reason(said)}")


@contextmanager
def _child(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, which is gone at the end of the block."""
    # Of the same code as this process, wherever that was found; and a debugger, which ggml would
    # start when it aborts, is of no use here.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": path, "GGML_NO_BACKTRACE": "1"},
        # A Ctrl-C on the terminal is for the server, which lets what runs come to its end.
        start_new_session=True,
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


def _lines(child: subprocess.Popen[bytes]) -> Iterator[str]:
    """The lines of its output as they come, and "" where none has come for a while."""
    assert child.stdout is not None
    descriptor = child.stdout.fileno()
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(_PATIENCE):
                yield ""
                continue
            data = os.read(descriptor, 65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            # What is no line after so many bytes is nothing that was meant for us.
            rest = rest[-65536:]
            for line in lines:
                yield line.decode("utf-8", "replace")


def _record(line: str) -> dict[str, str] | None:
    """The record on a line; None where the line is another text."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _reason(text: str) -> str:
    """What llama.cpp said, in short and without the server's paths."""
    told = text.removeprefix("llama_model_quantize: ").removeprefix("failed to quantize: ")
    return re.sub(r"(?:/[^\s/'\"]+)+/?", "the file", told)[:_MAX_TEXT]
