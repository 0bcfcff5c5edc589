"""A llama.cpp context: the KV cache of several sequences, and the evaluation of a batch."""

import ctypes
import mmap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from ollama_tw.interfaces import LoadError, LoadPlan, PromptState, RunnerError
from ollama_tw.llama.model import LlamaModel, cpu_threads
from ollama_tw.llama.speculation import MOST_DRAFTED
from ollama_tw.llama.structures import set_fields
from ollama_tw.llama.thread_count import ThreadCount
from ollama_tw.posix import memory_file

Logits = npt.NDArray[np.float32]

# enum ggml_type and enum llama_flash_attn_type
_CACHE_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
# enum llama_pooling_type
_MEAN_POOLING = 1
FLASH_ATTENTION = {None: -1, False: 0, True: 1}


# Bytes a second that are copied within a processor's memory, and a GPU's: both cautious.
_COPY_SPEED, _GPU_COPY_SPEED = 4e9, 100e9

# llama_state_seq_flags
_WHOLE_STATE = 0


@dataclass(frozen=True)
class Rows:
    """Consecutive tokens of one sequence in a batch, from ``position`` on."""

    sequence_id: int
    position: int
    tokens: Sequence[int]
    outputs: int
    """Number of the last tokens whose logits are required."""


class Context:
    """``plan.slots`` sequences of ``length`` tokens each.

    All calls are made on the thread that created the context, to which llama.cpp's worker threads
    belong. Raises :class:`LoadError`.
    """

    def __init__(self, model: LlamaModel, plan: LoadPlan, *, embeddings: bool = False) -> None:
        self._model = model
        self._embeddings = embeddings
        length = min(plan.context_length, model.trained_context or plan.context_length)
        batch = max(plan.batch, plan.slots)
        if embeddings and model.embeds:
            # Pooling and bidirectional attention need an input to be in one batch.
            batch = max(batch, length)
        threads = cpu_threads(plan.threads)
        cache_type = _CACHE_TYPES[plan.kv_cache_type]
        params = set_fields(
            llama_cpp.llama_context_default_params(),
            n_ctx=length * plan.slots,
            n_seq_max=plan.slots,
            n_batch=batch,
            n_ubatch=batch if embeddings else plan.micro_batch,
            n_threads=threads,
            n_threads_batch=threads,
            type_k=cache_type,
            type_v=cache_type,
            # Batches of embeddings are long: on the CPU their attention matrices would be large.
            flash_attn_type=FLASH_ATTENTION[
                None if embeddings and plan.gpu_layers == 0 else plan.flash_attention
            ],
            # Sliding-window layers keep only their window, as in llama-server.
            swa_full=False,
        )
        if embeddings:
            set_fields(params, embeddings=True)
            if model.lacks_pooling:
                set_fields(params, pooling_type=_MEAN_POOLING)
        else:
            # A sequence needs the logits of one token a step, and of drafted ones; that keeps their buffer
            # small.
            drafted = MOST_DRAFTED if plan.speculation else 0
            set_fields(params, n_outputs_max=min(plan.slots + drafted, batch))
        handle = llama_cpp.llama_init_from_model(model.handle, params)
        if not handle:
            raise LoadError(
                f"failed to create a context of {plan.slots} x {length} tokens for this model: "
                "there is not enough memory, or the model cannot generate text"
            )
        self.handle: Any = handle
        # A number that the user chose stays.
        self._threads = ThreadCount(threads) if plan.threads <= 0 and threads > 1 else None
        self._thread_count = threads
        self._copy_speed = _GPU_COPY_SPEED if plan.gpu_layers else _COPY_SPEED
        if model.adapters:
            count = len(model.adapters)
            adapters = (llama_cpp.llama_adapter_lora_p_ctypes * count)(*model.adapters)
            llama_cpp.llama_set_adapters_lora(
                handle, adapters, count, (ctypes.c_float * count)(*[1.0] * count)
            )
        # llama.cpp rounds up, beyond the requested length.
        self.length: int = min(length, llama_cpp.llama_n_ctx_seq(handle))
        self.batch: int = batch
        # None for encoder-only models.
        self._memory = llama_cpp.llama_get_memory(handle)
        # Targets of copies whose bytes the next batch copies.
        self._copied: set[int] = set()
        self._make_batch(batch)

    def _make_batch(self, rows: int) -> None:
        """Allocate the batch as numpy arrays, so that a chunk of a prompt is copied without a loop."""
        self._tokens = np.zeros(rows, dtype=np.int32)
        self._positions = np.zeros(rows, dtype=np.int32)
        self._sequences = np.zeros(rows, dtype=np.int32)
        self._logits = np.zeros(rows, dtype=np.int8)
        self._counts = np.ones(rows, dtype=np.int32)
        # Row i belongs to exactly one sequence, whose id is at sequences[i].
        start = self._sequences.ctypes.data
        self._pointers = (ctypes.POINTER(llama_cpp.llama_seq_id) * rows)(
            *(ctypes.cast(start + 4 * row, ctypes.POINTER(llama_cpp.llama_seq_id)) for row in range(rows))
        )
        self._batch = set_fields(
            llama_cpp.llama_batch(),
            token=self._tokens.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token)),
            pos=self._positions.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_pos)),
            n_seq_id=self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._pointers,
            logits=self._logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def decode(self, parts: Sequence[Rows]) -> list[int]:
        """Evaluate ``parts``, at most ``batch`` tokens, and return the row of the last token of each.

        Each sequence occurs once, in ascending order of ids: llama.cpp splits other batches, at half the
        speed. Raises :class:`RunnerError`; the state of the batch's sequences is then undefined.
        """
        end = 0
        last_rows = []
        for rows in parts:
            begin, end = end, end + len(rows.tokens)
            self._tokens[begin:end] = rows.tokens
            self._positions[begin:end] = np.arange(rows.position, rows.position + len(rows.tokens))
            self._sequences[begin:end] = rows.sequence_id
            self._logits[begin:end] = self._embeddings
            self._logits[end - rows.outputs : end] = 1
            last_rows.append(end - 1)
        set_fields(self._batch, n_tokens=end)
        self._adapt_threads()
        status = llama_cpp.llama_decode(self.handle, self._batch)
        if self._threads is not None:
            self._threads.end_step()
        self._copied.clear()
        if status != 0:
            raise RunnerError(f"llama.cpp failed to evaluate a batch of {end} tokens (status {status})")
        return last_rows

    def _adapt_threads(self) -> None:
        if self._threads is not None and (count := self._threads.begin_step()) != self._thread_count:
            self._thread_count = count
            llama_cpp.llama_set_n_threads(self.handle, count, count)

    def embedding(self, sequence_id: int, row: int) -> tuple[float, ...]:
        """Return the embedding of a sequence after :meth:`decode`.

        It is pooled, or for a model without pooling the one of the last token, at ``row``. Raises
        :class:`RunnerError`.
        """
        vector = llama_cpp.llama_get_embeddings_seq(self.handle, sequence_id)
        vector = vector or llama_cpp.llama_get_embeddings_ith(self.handle, row)
        if not vector:
            raise RunnerError("this model does not support embeddings")
        return tuple(vector[: self._model.pooled_size])

    def copy(self, source: int, target: int) -> None:
        """Copy the cache of sequence ``source`` to ``target``. The bytes are copied by the next batch."""
        self.clear(target)
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._copied.add(target)

    def copy_seconds(self, sequence_id: int) -> float:
        """Return about how long a copy of a sequence takes, which is one of its whole buffer."""
        cells: int = llama_cpp.llama_memory_seq_pos_max(self._memory, sequence_id) + 1
        return self.state_size(sequence_id) / max(cells, 1) * self.length / self._copy_speed

    def state_size(self, sequence_id: int) -> int:
        """Return the number of bytes that :meth:`save` needs for a sequence."""
        size: int = llama_cpp.llama_state_seq_get_size_ext(self.handle, sequence_id, _WHOLE_STATE)
        return size

    def save(self, sequence_id: int, tokens: Sequence[int], size: int) -> PromptState | None:
        """Return the state of a sequence, of ``size`` bytes, or None if it cannot be read now."""
        if not size or sequence_id in self._copied:
            return None
        state = PromptState(tuple(tokens), memory_file("prompt state", size), size)
        with mmap.mmap(state.descriptor, size) as memory:
            written = llama_cpp.llama_state_seq_get_data_ext(
                self.handle, _bytes_of(memory), size, sequence_id, _WHOLE_STATE
            )
        return state if written == size else None

    def restore(self, sequence_id: int, state: PromptState) -> bool:
        """Replace a sequence by a saved state; return whether llama.cpp accepted it."""
        if sequence_id in self._copied:
            return False
        # Private: llama.cpp only reads, but ctypes needs a buffer that can be written.
        with mmap.mmap(state.descriptor, state.size, offset=state.offset, access=mmap.ACCESS_COPY) as memory:
            if state.checksum is not None and zlib.crc32(memory) != state.checksum:
                return False
            read = llama_cpp.llama_state_seq_set_data_ext(
                self.handle, _bytes_of(memory), state.size, sequence_id, _WHOLE_STATE
            )
        return bool(read == state.size)

    def trim(self, sequence_id: int, length: int) -> int:
        """Cut a sequence to its first ``length`` positions and return the number that is left.

        That is ``length``, or 0 if the memory cannot go back to that position: a recurrent state, or a
        sliding window that is beyond it.
        """
        if length and llama_cpp.llama_memory_seq_rm(self._memory, sequence_id, length, -1):
            oldest = llama_cpp.llama_memory_seq_pos_min(self._memory, sequence_id)
            # -1: the whole window was beyond that position, and nothing is left.
            if self._model.recurrent or 0 <= oldest <= max(0, length - self._model.window):
                return length
        self.clear(sequence_id)
        return 0

    def take_back(self, sequence_id: int, length: int) -> None:
        """Remove the positions from ``length`` on, which the last batch has added, from a sequence.

        Not for recurrent memory. A sliding window still has what it had before the last batch: only cells
        that were out of its reach then have been overwritten.

        Source: llama.cpp: src/llama-kv-cache.cpp, find_slot.
        """
        llama_cpp.llama_memory_seq_rm(self._memory, sequence_id, length, -1)

    def cut_out(self, sequence_id: int, begin: int, end: int) -> bool:
        """Remove the positions from ``begin`` to ``end`` of a sequence and shift the later ones.

        Returns False, with nothing changed, if the memory does not support it.
        """
        if self._model.recurrent or not llama_cpp.llama_memory_can_shift(self._memory):
            return False
        if not llama_cpp.llama_memory_seq_rm(self._memory, sequence_id, begin, end):
            return False
        llama_cpp.llama_memory_seq_add(self._memory, sequence_id, end, -1, begin - end)
        return True

    def logprobs(self, row: int, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
        """Return the log probability of ``token`` at ``row``, and the ``count`` most likely tokens."""
        logits = logits_of(self.handle, row, self._model.vocabulary.size)
        highest = logits.max()
        normaliser = highest + np.log(np.exp(logits - highest).sum())
        top = np.argpartition(logits, -count)[-count:] if count else np.empty(0, dtype=int)
        top = top[np.argsort(-logits[top], kind="stable")]
        return (
            float(logits[token] - normaliser),
            tuple((int(one), float(logits[one] - normaliser)) for one in top),
        )

    def clear(self, sequence_id: int) -> None:
        """Remove a sequence from the cache."""
        if self._memory is not None:
            llama_cpp.llama_memory_seq_rm(self._memory, sequence_id, -1, -1)

    def close(self) -> None:
        """Free the memory. Called once."""
        llama_cpp.llama_free(self.handle)


def logits_of(context: Any, row: int, size: int) -> Logits:
    """Return the logits of batch row ``row``, one of ``size`` tokens each: valid until the next batch.

    ``context`` is the handle of a context.
    """
    found: Logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, row), (size,))
    return found


def _bytes_of(memory: mmap.mmap) -> Any:
    """Return the address of mapped memory, which keeps nothing alive."""
    array = ctypes.c_uint8 * len(memory)
    return ctypes.cast(ctypes.addressof(array.from_buffer(memory)), ctypes.POINTER(ctypes.c_uint8))
