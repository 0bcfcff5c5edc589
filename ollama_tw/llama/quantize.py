"""``python -m ollama_tw.llama.quantize IN OUT TYPE``: llama.cpp's quantizer in a process of its own.

A model on which llama.cpp ends its process ends this one. Every line of standard output is a JSON
object: ``{"tensor": NAME}`` when a tensor's turn comes, ``{"error": TEXT}`` before it gives up. The
process ends when its standard input does, so that it never outlives who started it.

Exit status: 0, 1 where llama.cpp refuses the model, 3 where there is no llama.cpp.
"""

import ctypes
import json
import os
import re
import resource
import sys
import threading
from collections.abc import Sequence

UNAVAILABLE = 3

# enum llama_ftype
_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "Q4_K_S": 14, "Q4_K_M": 15, "BF16": 32}

# enum ggml_log_level
_ERROR = 4

# What is served meanwhile goes first.
_NICENESS = 10
# Rows of one tensor that are in memory at once; llama.cpp would take 8 GiB.
_BUFFER_BYTES = 1 << 30

# "[  12/ 272] blk.0.attn_k.weight - [ 576, 192, 1, 1], type = f16, "
_TENSOR = re.compile(r"\[ *\d+/ *\d+\] +(\S+) +- \[")


def main(arguments: Sequence[str]) -> int:
    """Quantize and tell of it; the exit status is returned."""
    source, target, file_type = arguments
    threading.Thread(target=_end_with_input, daemon=True).start()
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        import llama_cpp

        from ollama_tw.llama.structures import IncompatibleLibrary, set_fields
    except (ImportError, OSError, RuntimeError) as error:
        _tell(error=str(error))
        return UNAVAILABLE
    errors: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def receive(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level == _ERROR:
            errors.append(line)
        elif found := _TENSOR.match(line):
            _tell(tensor=found[1])

    llama_cpp.llama_log_set(receive, ctypes.c_void_p(0))
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        parameters = set_fields(
            llama_cpp.llama_model_quantize_default_params(),
            ftype=_TYPES[file_type],
            nthread=threads,
            max_buf_size=_BUFFER_BYTES,
        )
    except IncompatibleLibrary as error:
        _tell(error=str(error))
        return 1
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters)):
        _tell(error=errors[-1] if errors else "llama.cpp does not say why")
        return 1
    return 0


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _tell(**record: str) -> None:
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    # llama.cpp's static parts are not taken down while the other thread waits.
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)
