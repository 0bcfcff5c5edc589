"""Projector of a vision model: embeddings of images, with llama.cpp's libmtmd."""

import ctypes
import hashlib
import logging
import os
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import mtmd_cpp

from ollama_tw.interfaces import IMAGE_MARKER, InvalidImages, LoadError, LoadPlan, RunnerError
from ollama_tw.llama.context import FLASH_ATTENTION, Context
from ollama_tw.llama.model import LlamaModel, cpu_threads
from ollama_tw.llama.native import NativeDevice, receive_log
from ollama_tw.llama.pictures import Picture, decode
from ollama_tw.llama.sequence import ImageSpan
from ollama_tw.llama.structures import set_fields

_log = logging.getLogger("ollama_tw.llama")


@cache
def _capture_log() -> None:
    mtmd_cpp.mtmd_helper_log_set(receive_log, ctypes.c_void_p(0))


class Projector:
    """The projector of a model. Raises :class:`LoadError`.

    :meth:`tokenize` may be called on any thread, :meth:`evaluate` on the decode thread only.
    """

    def __init__(self, plan: LoadPlan, model: LlamaModel, devices: Sequence[NativeDevice]) -> None:
        _capture_log()
        path, *others = plan.projector_paths
        if others:
            _log.warning("the model has %d projectors: only the first is used", 1 + len(others))
        self._model = model
        self._batch = plan.batch
        self.on_gpu = bool(devices) and plan.gpu_layers != 0
        params = set_fields(
            mtmd_cpp.mtmd_context_params_default(),
            use_gpu=self.on_gpu,
            n_threads=cpu_threads(plan.threads),
            media_marker=IMAGE_MARKER.encode(),
            flash_attn_type=FLASH_ATTENTION[plan.flash_attention],
            print_timings=False,
        )
        if self.on_gpu:
            set_fields(params, device=devices[min(plan.main_gpu, len(devices) - 1)].handle)
        handle = mtmd_cpp.mtmd_init_from_file(os.fsencode(path), model.handle, params)
        if not handle:
            raise LoadError(
                f"unable to load projector {Path(path).name}: llama.cpp cannot read it, or it belongs "
                "to another model"
            )
        self._handle: Any = handle
        self.size = Path(path).stat().st_size
        """Bytes of the weights."""

    def tokenize(self, text: str, files: Sequence[bytes]) -> tuple[list[int], tuple[ImageSpan, ...]]:
        """Return the tokens of a prompt with images, and the spans of the images in it.

        The tokens of an image are one negative number, a hash of the image, so that equal numbers mean
        equal images. The last token is one of text, a line feed if ``text`` ends with an image. Raises
        :class:`InvalidImages`, and :class:`RunnerError` if an image is too large for a batch.
        """
        if not mtmd_cpp.mtmd_support_vision(self._handle):
            raise InvalidImages(
                "this model does not support multimodal input: its projector does not take images"
            )
        if text.count(IMAGE_MARKER) != len(files):
            raise InvalidImages("the prompt must contain one marker for each image")
        chunks = self._split(text, [_Bitmap(picture) for picture in decode(files)])
        tokens: list[int] = []
        spans: list[ImageSpan] = []
        for index in range(len(chunks)):
            chunk = chunks[index]
            if mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_TEXT:
                count = ctypes.c_size_t()
                pointer = mtmd_cpp.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
                tokens += pointer[: count.value]
            else:
                spans.append(self._span(chunk, chunks, len(tokens), len(spans)))
                tokens += spans[-1].tokens
        if tokens[-1] < 0:
            tokens += self._model.vocabulary.tokenize("\n", add_special=False)
        return tokens, tuple(spans)

    def _split(self, text: str, bitmaps: Sequence["_Bitmap"]) -> "_Chunks":
        data = text.encode("utf-8", "replace")
        source = set_fields(
            mtmd_cpp.mtmd_input_text(), text=data, text_len=len(data), add_special=True, parse_special=True
        )
        handles = (ctypes.c_void_p * len(bitmaps))(*(bitmap.handle for bitmap in bitmaps))
        chunks = _Chunks()
        status = mtmd_cpp.mtmd_tokenize(
            self._handle, chunks.handle, ctypes.byref(source), handles, len(bitmaps)
        )
        if status != 0:
            raise InvalidImages(f"llama.cpp failed to preprocess the images (status {status})")
        return chunks

    def _span(self, chunk: Any, owner: "_Chunks", begin: int, number: int) -> ImageSpan:
        size = mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk)
        if size > self._batch and mtmd_cpp.mtmd_decode_use_non_causal(self._handle, chunk):
            raise RunnerError(
                f"this model evaluates an image in one batch of {size} tokens: set num_batch to {size}"
            )
        # An image may be split into several chunks with the same id: their number is part of the hash.
        identity = b"%s %d %d" % (mtmd_cpp.mtmd_input_chunk_get_id(chunk), number, size)
        # It fits a signed integer of 64 bits.
        token = -1 - (int.from_bytes(hashlib.sha256(identity).digest()[:8]) >> 1)
        positions = mtmd_cpp.mtmd_input_chunk_get_n_pos(chunk)
        return ImageSpan(begin, (token,) * size, positions, chunk, owner)

    def evaluate(self, span: ImageSpan, context: Context, sequence_id: int, position: int) -> None:
        """Encode an image and decode it into a sequence of ``context`` at ``position``.

        Raises :class:`RunnerError`; the state of the sequence is then undefined.
        """
        status = mtmd_cpp.mtmd_encode_chunk(self._handle, span.chunk)
        if status == 0:
            after = llama_cpp.llama_pos()
            status = mtmd_cpp.mtmd_helper_decode_image_chunk(
                self._handle,
                context.handle,
                span.chunk,
                mtmd_cpp.mtmd_get_output_embd(self._handle),
                position,
                sequence_id,
                context.batch,
                ctypes.byref(after),
                mtmd_cpp.mtmd_helper_post_decode_callback(),
                None,
            )
        if status != 0:
            raise RunnerError(f"llama.cpp failed to evaluate an image (status {status})")

    def close(self) -> None:
        """Free the memory. Called once."""
        mtmd_cpp.mtmd_free(self._handle)


class _Bitmap:
    """A picture in libmtmd's memory, freed with the object."""

    def __init__(self, picture: Picture) -> None:
        pixels = ctypes.cast(ctypes.c_char_p(picture.pixels), ctypes.POINTER(ctypes.c_uint8))
        self.handle: Any = mtmd_cpp.mtmd_bitmap_init(picture.width, picture.height, pixels)
        weakref.finalize(self, mtmd_cpp.mtmd_bitmap_free, self.handle).atexit = False
        mtmd_cpp.mtmd_bitmap_set_id(self.handle, picture.digest.encode())


class _Chunks:
    """Chunks of a prompt in libmtmd's memory, freed with the object."""

    def __init__(self) -> None:
        self.handle: Any = mtmd_cpp.mtmd_input_chunks_init()
        weakref.finalize(self, mtmd_cpp.mtmd_input_chunks_free, self.handle).atexit = False

    def __len__(self) -> int:
        count: int = mtmd_cpp.mtmd_input_chunks_size(self.handle)
        return count

    def __getitem__(self, index: int) -> Any:
        return mtmd_cpp.mtmd_input_chunks_get(self.handle, index)
