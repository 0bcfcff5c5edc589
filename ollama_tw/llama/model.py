"""A model file in memory: load with progress, vocabulary, metadata and properties."""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import llama_cpp
import psutil

from ollama_tw.interfaces import LoadCancelled, LoadError, LoadPlan, Progress
from ollama_tw.llama.architectures import ENCODERS
from ollama_tw.llama.native import LoadReport, NativeDevice, initialise, uses_amx
from ollama_tw.llama.structures import set_fields
from ollama_tw.llama.vocabulary import LlamaVocabulary
from ollama_tw.posix import free_threads, usable_processors

# enum llama_split_mode
_WHOLE, _BY_LAYER = 0, 1

# enum llama_load_mode
_LOAD_MODES = {None: -1, False: 0, True: 1}

# enum llama_pooling_type, as text in the metadata
_RANK_POOLING = "4"
_UNSPECIFIED_POOLING = ("-1", "4294967295")


# A model has up to this many teams of threads: for decoding, embeddings, the projector.
_TEAMS = 4


def cpu_threads(count: int) -> int:
    """Return ``count``, or for 0 the number of physical cores, as far as this process may use them.

    With more threads than cores decoding is several times slower, because they synchronise by
    spinning; OpenMP ends the process if it cannot start one.
    """
    usable = usable_processors()
    wanted = min(count if count > 0 else psutil.cpu_count(logical=False) or usable, usable)
    free = free_threads()
    return max(1, wanted if free is None else min(wanted, free // _TEAMS))


class LlamaModel:
    """Weights, vocabulary and adapters of a model file.

    ``devices`` are the GPUs that may hold layers; ``progress`` is called on the calling thread. Raises
    :class:`LoadError`, :class:`LoadCancelled`.
    """

    def __init__(
        self, plan: LoadPlan, devices: list[NativeDevice], progress: Progress, report: LoadReport
    ) -> None:
        initialise()
        params = llama_cpp.llama_model_default_params()
        if plan.gpu_layers == 0:
            devices = []
        shares = plan.tensor_split
        if len(shares) == len(devices) and any(shares):
            # A GPU without layers is left out: it would hold the driver's memory for nothing.
            devices = [device for device, share in zip(devices, shares, strict=True) if share]
            shares = tuple(share for share in shares if share)
            limit = llama_cpp.llama_max_devices()
            set_fields(
                params,
                main_gpu=0,
                split_mode=_BY_LAYER if len(shares) > 1 else _WHOLE,
                tensor_split=(ctypes.c_float * limit)(*map(float, shares[:limit])),
            )
        else:
            set_fields(params, main_gpu=plan.main_gpu)
        # An empty list, not a missing one, keeps the model off every GPU.
        handles = (ctypes.c_void_p * (len(devices) + 1))(*(device.handle for device in devices), None)
        cancelled = False

        @llama_cpp.llama_progress_callback  # type: ignore[untyped-decorator]
        def on_progress(fraction: float, _user_data: ctypes.c_void_p) -> bool:
            nonlocal cancelled
            cancelled = cancelled or not progress(fraction)
            return not cancelled

        set_fields(
            params,
            devices=ctypes.cast(handles, ctypes.c_void_p),
            n_gpu_layers=plan.gpu_layers if devices else 0,
            load_mode=_LOAD_MODES[plan.use_mmap],
            use_extra_bufts=not uses_amx(),
            progress_callback=on_progress,
        )
        handle = llama_cpp.llama_model_load_from_file(os.fsencode(plan.model_path), params)
        if not handle:
            if cancelled:
                raise LoadCancelled("the load was cancelled")
            raise LoadError(load_failure(report, Path(plan.model_path)))
        self.handle: Any = handle
        # Before any context is created; they are freed with the model.
        self.adapters = [self._load_adapter(path, report) for path in plan.adapter_paths]
        try:
            self.vocabulary = LlamaVocabulary(handle)
        except LoadError:
            llama_cpp.llama_model_free(handle)
            raise
        self.trained_context: int = llama_cpp.llama_model_n_ctx_train(handle)
        self.window: int = llama_cpp.llama_model_n_swa(handle)
        self.recurrent: bool = llama_cpp.llama_model_is_recurrent(handle) or llama_cpp.llama_model_is_hybrid(
            handle
        )
        """True if the memory is a recurrent state, which cannot go back to an earlier position."""
        self.has_decoder: bool = llama_cpp.llama_model_has_decoder(handle)
        self.metadata = self._read_metadata()
        self.rank_template: str = self.metadata.get("tokenizer.chat_template.rerank", "")
        """Prompt of a reranker for a query and a document, "" if it takes them as a pair of texts."""

    def _load_adapter(self, path: str, report: LoadReport) -> Any:
        adapter = llama_cpp.llama_adapter_lora_init(self.handle, os.fsencode(path))
        if not adapter:
            llama_cpp.llama_model_free(self.handle)
            raise LoadError(load_failure(report, Path(path)))
        return adapter

    @property
    def architecture(self) -> str:
        """The name of the architecture, "" if the file has none."""
        return self.metadata.get("general.architecture", "")

    @property
    def embeds(self) -> bool:
        """True if the model was trained for embeddings or ranking: it has a pooling, or is an encoder."""
        return bool(self._pooling) or self.architecture in ENCODERS

    @property
    def lacks_pooling(self) -> bool:
        """True for an encoder whose file names no pooling."""
        return self.embeds and not self._pooling

    @property
    def is_reranker(self) -> bool:
        """True if the model was trained to rank documents."""
        return self._pooling == _RANK_POOLING

    @property
    def _pooling(self) -> str:
        declared = self.metadata.get(f"{self.architecture}.pooling_type", "")
        return "" if declared in _UNSPECIFIED_POOLING else declared

    @property
    def pooled_size(self) -> int:
        """Number of elements of an embedding, or of a reranker's classes."""
        if self.is_reranker:
            return int(llama_cpp.llama_model_n_cls_out(self.handle))
        return int(llama_cpp.llama_model_n_embd_out(self.handle))

    @property
    def truncates_embeddings(self) -> bool:
        """True if llama.cpp keeps fewer elements of embeddings than it reads, which ends the process."""
        return not self.is_reranker and self.pooled_size > llama_cpp.llama_model_n_embd(self.handle)

    @property
    def bidirectional(self) -> bool:
        """True if attention is not causal, so that the model has no KV cache."""
        causal = self.metadata.get(f"{self.architecture}.attention.causal")
        return self.architecture in ENCODERS or causal == "false"

    def _read_metadata(self) -> Mapping[str, str]:
        """Return the file's scalar metadata, without arrays."""
        found = {}
        for index in range(llama_cpp.llama_model_meta_count(self.handle)):
            key = self._meta_text(llama_cpp.llama_model_meta_key_by_index, index)
            value = self._meta_text(llama_cpp.llama_model_meta_val_str_by_index, index)
            found[key] = value
        return found

    def _meta_text(self, read: Any, index: int) -> str:
        capacity = 256
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            length = read(self.handle, index, buffer, capacity)
            if length < capacity:
                return buffer.raw[: max(length, 0)].decode("utf-8", "replace")
            capacity = length + 1

    def close(self) -> None:
        """Free the memory. Called once, after all contexts of the model were closed."""
        self.vocabulary.close()
        llama_cpp.llama_model_free(self.handle)


def load_failure(report: LoadReport, path: Path) -> str:
    """Return the error for a file that llama.cpp failed to load, with its own reason if it gave one."""
    lines = [line.split(": ", 1)[-1] for line in report.errors]
    # The first line is the reason; the last ones only repeat that the load failed.
    reason = next((line for line in lines if line and "failed to load model" not in line), "")
    # Clients must not see the server's paths.
    reason = reason.replace(str(path), path.name)
    return f"unable to load model {path.name}: {reason or 'llama.cpp gave no reason'}"
