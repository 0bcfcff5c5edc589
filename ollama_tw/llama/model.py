"""A model file in memory: loading it with progress, and what can be read off it."""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import llama_cpp
import psutil

from ollama_tw.interfaces import LoadCancelled, LoadError, LoadPlan, Progress
from ollama_tw.llama.native import LoadReport, NativeDevice, start, uses_amx
from ollama_tw.llama.structures import set_fields
from ollama_tw.llama.vocabulary import Vocabulary

# enum llama_split_mode
_WHOLE, _BY_LAYER = 0, 1

# enum llama_load_mode
_LOAD_MODES = {None: -1, False: 0, True: 1}

# enum llama_pooling_type, as the metadata has it
_RANK_POOLING = "4"


def cpu_threads(wanted: int) -> int:
    """``wanted``, or for 0 one thread for each physical core that this process may use.

    More threads than cores make decoding several times slower, for they wait for each other
    spinning.
    """
    if wanted > 0:
        return wanted
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable))


class Model:
    """The weights and the vocabulary. Raises :class:`LoadError`, :class:`LoadCancelled`."""

    def __init__(
        self, plan: LoadPlan, devices: list[NativeDevice], progress: Progress, report: LoadReport
    ) -> None:
        start()
        params = llama_cpp.llama_model_default_params()
        if plan.gpu_layers == 0:
            devices = []
        shares = plan.tensor_split
        if len(shares) == len(devices) and any(shares):
            # A GPU that gets nothing is left out, or it would hold the driver's memory for nothing.
            devices = [device for device, share in zip(devices, shares, strict=True) if share]
            shares = tuple(share for share in shares if share)
            room = llama_cpp.llama_max_devices()
            set_fields(
                params,
                main_gpu=0,
                split_mode=_BY_LAYER if len(shares) > 1 else _WHOLE,
                tensor_split=(ctypes.c_float * room)(*map(float, shares[:room])),
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
        # Before any context is made; they go with the model.
        self.adapters = [self._load_adapter(path, report) for path in plan.adapter_paths]
        try:
            self.vocabulary = Vocabulary(handle)
        except LoadError:
            llama_cpp.llama_model_free(handle)
            raise
        self.trained_context: int = llama_cpp.llama_model_n_ctx_train(handle)
        self.window: int = llama_cpp.llama_model_n_swa(handle)
        self.keeps_state: bool = llama_cpp.llama_model_is_recurrent(
            handle
        ) or llama_cpp.llama_model_is_hybrid(handle)
        """Whether the memory is a running state, of which no earlier position can be asked for."""
        self.has_encoder: bool = llama_cpp.llama_model_has_encoder(handle)
        self.has_decoder: bool = llama_cpp.llama_model_has_decoder(handle)
        self.metadata = self._read_metadata()
        self.rank_template: str = self.metadata.get("tokenizer.chat_template.rerank", "")
        """How a query and a document are put to the model; empty where they are two texts to it."""

    def _load_adapter(self, path: str, report: LoadReport) -> Any:
        adapter = llama_cpp.llama_adapter_lora_init(self.handle, os.fsencode(path))
        if not adapter:
            llama_cpp.llama_model_free(self.handle)
            raise LoadError(load_failure(report, Path(path)))
        return adapter

    @property
    def pools(self) -> bool:
        """Whether the model was made for embeddings or ranking: its file names a pooling."""
        return bool(self._pooling)

    @property
    def ranks(self) -> bool:
        """Whether the model was made for ranking documents."""
        return self._pooling == _RANK_POOLING

    @property
    def _pooling(self) -> str:
        architecture = self.metadata.get("general.architecture", "")
        return self.metadata.get(f"{architecture}.pooling_type", "")

    @property
    def pooled_size(self) -> int:
        """How many numbers the model makes of a text."""
        if self.ranks:
            return int(llama_cpp.llama_model_n_cls_out(self.handle))
        return int(llama_cpp.llama_model_n_embd_out(self.handle))

    @property
    def looks_both_ways(self) -> bool:
        """Whether the model reads a text as a whole, and so keeps no KV cache."""
        architecture = self.metadata.get("general.architecture", "")
        return self.metadata.get(f"{architecture}.attention.causal") == "false"

    def _read_metadata(self) -> Mapping[str, str]:
        """The file's scalar metadata; arrays are left where they are."""
        found = {}
        for index in range(llama_cpp.llama_model_meta_count(self.handle)):
            key = self._meta_text(llama_cpp.llama_model_meta_key_by_index, index)
            value = self._meta_text(llama_cpp.llama_model_meta_val_str_by_index, index)
            found[key] = value
        return found

    def _meta_text(self, read: Any, index: int) -> str:
        room = 256
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = read(self.handle, index, buffer, room)
            if length < room:
                return buffer.raw[: max(length, 0)].decode("utf-8", "replace")
            room = length + 1

    def close(self) -> None:
        """Give back the memory; no context of the model may be left. Called once."""
        self.vocabulary.close()
        llama_cpp.llama_model_free(self.handle)


def load_failure(report: LoadReport, path: Path) -> str:
    """Why llama.cpp refused the file, in its own words where it found any."""
    lines = [line.split(": ", 1)[-1] for line in report.errors]
    # The last lines only repeat that it failed; the first says why.
    why = next((line for line in lines if line and "failed to load model" not in line), "")
    # Where the file lies is nobody's business but the log's.
    why = why.replace(str(path), path.name)
    return f"unable to load model {path.name}: {why or 'llama.cpp gave no reason'}"
