"""``python -m ollama_tw.llama.quantize IN OUT TYPE``: llama.cpp's quantizer in a process of its own.

A model on which llama.cpp aborts ends this process only. Every line of standard output is a JSON
object: ``{"tensor": NAME}`` when a tensor is begun, ``{"error": TEXT}`` before a failure. The process
ends at the end of its standard input, so that it never outlives its parent.

Exit status: 0; 1 if quantizing fails; 3 if llama.cpp cannot be imported.
"""

import ctypes
import json
import os
import re
import sys
import threading
from collections.abc import Sequence

from ollama_tw.posix import lower_priority, usable_processors

UNAVAILABLE = 3

# enum llama_ftype
_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "Q4_K_S": 14, "Q4_K_M": 15, "BF16": 32}

# enum ggml_log_level
_ERROR = 4

# Lower priority than the serving process.
_NICENESS = 10
# Buffer for the rows of a tensor; the default of llama.cpp is 8 GiB.
_BUFFER_BYTES = 1 << 30

# "[  12/ 272] blk.0.attn_k.weight - [ 576, 192, 1, 1], type = f16, "
_TENSOR = re.compile(r"\[ *\d+/ *\d+\] +(\S+) +- \[")


def main(arguments: Sequence[str]) -> int:
    """Quantize the file and return the exit status."""
    source, target, file_type = arguments
    lower_priority(_NICENESS)
    if sys.platform != "win32":
        from ollama_tw.runner.sandbox import confine

        # Before any thread is started, and before the file is read.
        confine([source], writable=[target])
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        import llama_cpp

        from ollama_tw.llama.structures import IncompatibleLibrary, set_fields
    except (ImportError, OSError, RuntimeError) as error:
        _report(error=str(error))
        return UNAVAILABLE
    errors: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def receive(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level == _ERROR:
            errors.append(line)
        elif found := _TENSOR.match(line):
            _report(tensor=found[1])

    llama_cpp.llama_log_set(receive, ctypes.c_void_p(0))
    try:
        parameters = set_fields(
            llama_cpp.llama_model_quantize_default_params(),
            ftype=_TYPES[file_type],
            nthread=usable_processors(),
            max_buf_size=_BUFFER_BYTES,
        )
    except IncompatibleLibrary as error:
        _report(error=str(error))
        return 1
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters)):
        _report(error=errors[-1] if errors else "llama.cpp gave no reason")
        return 1
    return 0


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _report(**record: str) -> None:
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    # Exit without llama.cpp's static destructors, which must not run beside the other thread.
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)
