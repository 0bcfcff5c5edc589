"""Fields of llama.cpp's structures that this package sets, and the check that the library has them.

ctypes accepts an assignment to an unknown attribute of a structure: a field that another release of
llama-cpp-python renames or drops would silently keep its default. Fields are therefore set by
:func:`set_fields` alone, and :func:`incompatibility` compares :data:`FIELDS` with the installed
library before a backend is reported as available.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import llama_cpp
from llama_cpp import mtmd_cpp

from ollama_tw.interfaces import LoadError

FIELDS: Mapping[str, frozenset[str]] = {
    "llama_batch": frozenset({"n_tokens", "token", "pos", "n_seq_id", "seq_id", "logits"}),
    "llama_context_params": frozenset(
        {
            "embeddings",
            "flash_attn_type",
            "n_batch",
            "n_ctx",
            "n_outputs_max",
            "n_seq_max",
            "n_threads",
            "n_threads_batch",
            "pooling_type",
            "n_ubatch",
            "swa_full",
            "type_k",
            "type_v",
        }
    ),
    "llama_logit_bias": frozenset({"token", "bias"}),
    "llama_model_params": frozenset(
        {
            "devices",
            "load_mode",
            "main_gpu",
            "n_gpu_layers",
            "progress_callback",
            "split_mode",
            "tensor_split",
            "use_extra_bufts",
            "vocab_only",
        }
    ),
    "llama_model_quantize_params": frozenset({"ftype", "max_buf_size", "nthread"}),
    "llama_token_data_array": frozenset({"data", "selected", "size", "sorted"}),
    "mtmd_context_params": frozenset(
        {"device", "flash_attn_type", "media_marker", "n_threads", "print_timings", "use_gpu"}
    ),
    "mtmd_input_text": frozenset({"add_special", "parse_special", "text", "text_len"}),
}
"""Names of the fields that are set, by the name of their structure."""


class IncompatibleLibrary(LoadError):
    """The installed llama-cpp-python lacks a structure or a field that is set."""

    def __init__(self, fault: str) -> None:
        version = getattr(llama_cpp, "__version__", "of unknown version")
        super().__init__(f"the installed llama-cpp-python {version} is not supported: {fault}")


def set_fields(structure: Any, **values: Any) -> Any:
    """Set fields of ``structure``, a ctypes structure, and return it.

    Raises :class:`KeyError` for a field that is missing in :data:`FIELDS`, and
    :class:`IncompatibleLibrary` for one that the structure does not have.
    """
    kind: Any = type(structure)
    unlisted = values.keys() - FIELDS[kind.__name__]
    if unlisted:
        raise KeyError(f"{', '.join(sorted(unlisted))}: not in FIELDS of {kind.__name__}")
    for name, value in values.items():
        if name not in _field_names(kind):
            raise IncompatibleLibrary(f"{kind.__name__} has no field {name}")
        setattr(structure, name, value)
    return structure


def incompatibility() -> str:
    """Return why the installed llama-cpp-python cannot be used, "" if it has all of :data:`FIELDS`."""
    faults = []
    for structure, names in FIELDS.items():
        module = mtmd_cpp if structure.startswith("mtmd_") else llama_cpp
        kind = getattr(module, structure, None)
        if kind is None:
            faults.append(f"it has no structure {structure}")
            continue
        missing = sorted(names - _field_names(kind))
        if missing:
            faults.append(f"{structure} has no field {', '.join(missing)}")
    return str(IncompatibleLibrary("; ".join(faults))) if faults else ""


@cache
def _field_names(kind: Any) -> frozenset[str]:
    return frozenset(field[0] for base in kind.__mro__ for field in getattr(base, "_fields_", ()))
