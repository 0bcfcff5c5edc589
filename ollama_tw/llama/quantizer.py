"""Quantization of a model in a child process, from the server's side; does not import llama.cpp.

The prefixes of the error texts, ``llama-quantize failed:`` and ``llama-quantize unavailable:``, are
Ollama's.
"""

import errno
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Generator
from pathlib import Path

from ollama_tw.errors import OllamaError
from ollama_tw.llama.quantize import UNAVAILABLE
from ollama_tw.runner.environment import child_command, child_environment
from ollama_tw.runner.supervisor import ChildProcess, signal_name

_log = logging.getLogger("ollama_tw.llama")

# Seconds without output of the child after which control returns to the caller.
_POLL = 0.2

# Free bytes below which a failed write means that the disk is full.
_DISK_FULL = 1 << 20
_MAX_TEXT = 300

# Quantizing takes all cores and a gigabyte: two at once would both be slower.
_one_at_a_time = threading.Lock()


def quantize(source: Path, target: Path, file_type: str) -> Generator[str, None, None]:
    """Quantize the GGUF model ``source`` to ``file_type`` and write it to the existing file ``target``.

    Yields the name of each tensor when it is begun, and "" several times a second between; closing the
    generator kills the child. One model is quantized at a time, further calls block. Raises
    OllamaError 500, and OSError if the disk is full.
    """
    while not _one_at_a_time.acquire(timeout=_POLL):
        yield ""
    try:
        yield from _quantize(source, target, file_type)
    finally:
        _one_at_a_time.release()


def _quantize(source: Path, target: Path, file_type: str) -> Generator[str, None, None]:
    command = child_command("ollama_tw.llama.quantize", str(source), str(target), file_type)
    message = ""
    # The end of its standard input ends the child.
    child = ChildProcess(command, child_environment(), lifeline=True)
    ended = False
    try:
        for line in child.lines(_POLL):
            record = _record(line)
            if record is None:
                message = line or message
                yield ""
            elif "tensor" in record:
                yield record["tensor"]
            else:
                message = record.get("error", "")
        ended = True
    finally:
        if not ended:
            child.kill()
        status = child.reap().status
    if status == 0:
        return
    _log.warning("quantizing ended with status %d: %s", status, message)
    if shutil.disk_usage(target.parent).free < _DISK_FULL:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if status == UNAVAILABLE:
        raise OllamaError(500, "llama-quantize unavailable: llama-cpp-python cannot be used")
    if status < 0:
        raise OllamaError(500, f"llama-quantize failed: killed by {signal_name(-status)}")
    raise OllamaError(500, f"llama-quantize failed: {_reason(message)}")


def _record(line: str) -> dict[str, str] | None:
    """Return the record on a line, None for another text."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _reason(text: str) -> str:
    """Return llama.cpp's reason, shortened and without the server's paths."""
    reason = text.removeprefix("llama_model_quantize: ").removeprefix("failed to quantize: ")
    return re.sub(r"(?:/[^\s/'\"]+)+/?", "the file", reason)[:_MAX_TEXT]
