"""Reference results from llama.cpp: logits of a converted file."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import llama_cpp
import numpy as np

from ollama_tw.llama.native import initialise, load_report
from tests.convert.sets import Array

Convert = Callable[[Callable[[bytes | memoryview], object]], None]


def converted(path: Path, convert: Convert) -> Path:
    """Write the output of ``convert`` to ``path``."""
    with path.open("wb") as file:
        convert(file.write)
    return path


def logits(path: Path, tokens: Sequence[int], *, adapter: Path | None = None) -> Array:
    """Return the logits after each of ``tokens``, shape (tokens, vocabulary); the KV cache is F32."""
    initialise()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    with load_report() as report:
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert model, report
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 128
    options.n_threads = options.n_threads_batch = 1
    options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
    options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, options)
    try:
        if adapter is not None:
            lora = llama_cpp.llama_adapter_lora_init(model, str(adapter).encode())
            assert lora
            assert not llama_cpp.llama_set_adapters_lora(
                context, (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora), 1, (ctypes.c_float * 1)(1.0)
            )
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        for at, token in enumerate(tokens):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, at, 1
            batch.seq_id[at][0], batch.logits[at] = 0, 1
        batch.n_tokens = len(tokens)
        assert llama_cpp.llama_decode(context, batch) == 0
        llama_cpp.llama_batch_free(batch)
        size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        found = llama_cpp.llama_get_logits(context)
        return np.ctypeslib.as_array(found, (len(tokens), size)).astype(np.float64)
    finally:
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
