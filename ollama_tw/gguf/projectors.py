"""Checks of projector files for keys, types and shapes on which llama.cpp aborts the process.

llama.cpp reads a projector without comparing the shapes of its tensors: the first product of two that do
not fit ends the process.

Source: llama.cpp: tools/mtmd/clip.cpp, clip_model_loader; tools/mtmd/clip-impl.h, the keys.
"""

import math
from collections.abc import Mapping

from ollama_tw.gguf.checks import (
    BOOL,
    FLOAT32,
    FLOAT32_ARRAY,
    INT32,
    INT32_ARRAY,
    STRING,
    UINT32,
    Kind,
    check_alignment,
    check_finite,
    check_kinds,
    check_weight_type,
    sides,
)
from ollama_tw.gguf.reader import GGUFError, Header, Tensor
from ollama_tw.gguf.vision_encoders import CHANNELS, EncoderKeys, check_vision_encoder

_MAX_LAYERS = 512
_MAX_IMAGE_SIZE = 8192
_MAX_SIDE = (1 << 31) - 1
# The types in which llama.cpp evaluates convolutions and the addition of a row.
_PLAIN_TYPES = ("F32", "F16")

_ENCODER_KEYS: Mapping[str, Kind] = {
    "embedding_length": UINT32,
    "feed_forward_length": UINT32,
    "block_count": UINT32,
    "projection_dim": UINT32,
    "attention.head_count": UINT32,
    "attention.head_count_kv": UINT32,
    "attention.head_dim": UINT32,
    "attention.layer_norm_epsilon": FLOAT32,
    "feature_layer": INT32_ARRAY,
    "projector_type": STRING,
    "wa_pattern_mode": INT32_ARRAY,
    "window_size": UINT32,
}
_REQUIRED = (
    "embedding_length",
    "feed_forward_length",
    "block_count",
    "projection_dim",
    "attention.head_count",
    "attention.layer_norm_epsilon",
)
_REQUIRED_OF_IMAGES = ("image_size", "patch_size", "image_mean", "image_std")

_KINDS: Mapping[str, Kind] = {
    "general.architecture": STRING,
    "general.name": STRING,
    "general.description": STRING,
    "general.type": STRING,
    "general.alignment": UINT32,
    "general.file_type": UINT32,
    "clip.projector_type": STRING,
    "clip.has_vision_encoder": BOOL,
    "clip.has_audio_encoder": BOOL,
    "clip.has_gen_audio_encoder": BOOL,
    "clip.use_gelu": BOOL,
    "clip.use_silu": BOOL,
    "clip.minicpmv_version": INT32,
    "clip.minicpmv_query_num": UINT32,
    **{f"clip.{encoder}.{key}": kind for encoder in ("vision", "audio", "gen.audio")
       for key, kind in _ENCODER_KEYS.items()},
    **{f"clip.vision.{key}": UINT32 for key in (
        "image_size", "image_min_pixels", "image_max_pixels", "preproc_min_tiles", "preproc_max_tiles",
        "preproc_image_size", "patch_size", "projector.scale_factor", "projector.query_side",
        "projector.window_side", "spatial_merge_size", "n_wa_pattern", "sam.head_count", "sam.block_count",
        "sam.embedding_length", "expert_used_count",
    )},
    "clip.vision.swiglu_clamp": FLOAT32,
    "clip.vision.mm_patch_merge_type": STRING,
    "clip.gen.audio.model_variant": STRING,
    **{f"clip.vision.{key}": INT32_ARRAY for key in (
        "projector.spatial_offsets", "image_grid_pinpoints", "wa_layer_indexes")},
    "clip.vision.image_mean": FLOAT32_ARRAY,
    "clip.vision.image_std": FLOAT32_ARRAY,
    **{f"clip.audio.{key}": UINT32 for key in (
        "num_mel_bins", "projector.stack_factor", "chunk_size", "conv_kernel_size", "max_pos_emb",
        "projector.window_size", "projector.downsample_rate", "projector.head_count", "rvq.num_quantizers",
        "local_block_count", "local_group_size", "subsampling_factor",
    )},
    "clip.audio.rvq.codebook_size": INT32_ARRAY,
}  # fmt: skip


def validate_projector(header: Header) -> None:
    """Raise GGUFError if llama.cpp would abort on the projector of ``header``, which must be complete.

    Blocking: reads the metadata. Raises OSError if the file cannot be read.
    """
    check_kinds(header, _KINDS)
    check_alignment(header)
    encoders = [
        name for name in ("vision", "audio") if header.metadata.get(f"clip.has_{name}_encoder") is True
    ]
    if not encoders and header.architecture != "clip":
        # The layout of Ollama's own engine, which llama.cpp rejects with an error.
        return
    if not encoders:
        raise GGUFError("the projector has neither an encoder of images nor one of audio")
    if not header.tensors:
        raise GGUFError("the projector has no tensors")
    for tensor in header.tensors:
        _check_tensor(tensor)
    for name in encoders:
        _check_encoder(header, name)


def _check_tensor(tensor: Tensor) -> None:
    check_weight_type(tensor)
    if not tensor.elements or max(tensor.shape, default=1) > _MAX_SIDE:
        raise GGUFError(f'tensor "{tensor.name}" has an unsupported shape')
    row = len(sides(tensor)) <= 1
    convolution = "patch_embd" in tensor.name or "conv" in tensor.name
    if (row or convolution or tensor.name.endswith(".bias")) and tensor.type.name not in _PLAIN_TYPES:
        raise GGUFError(f'tensor "{tensor.name}" has the type {tensor.type.name} instead of F32 or F16')


def _check_encoder(header: Header, name: str) -> None:
    """Check the keys of the encoder ``name`` (``vision`` or ``audio``), and the tensors of a usual one."""
    images = name == "vision"
    keys = EncoderKeys(header, name)
    for key in (*_REQUIRED, *(_REQUIRED_OF_IMAGES if images else ())):
        if keys.value(key) is None:
            raise GGUFError(f'the projector lacks the metadata key "clip.{name}.{key}"')
    check_finite(header, f"clip.{name}.attention.layer_norm_epsilon")
    layers = keys.integer("block_count")
    if layers > _MAX_LAYERS:
        raise GGUFError(f"the projector declares {layers} layers, more than {_MAX_LAYERS}")
    if not keys.integer("embedding_length"):
        raise GGUFError("the projector declares an embedding of 0 elements")
    if f"clip.{name}.feature_layer" in header.metadata:
        for layer in header.array(f"clip.{name}.feature_layer"):
            if not 0 <= layer <= layers:
                raise GGUFError(f"the projector takes features of layer {layer} of {layers}")
    if images:
        _check_picture(header, keys)
        check_vision_encoder(header, keys)


def _check_picture(header: Header, keys: EncoderKeys) -> None:
    size, patch = keys.integer("image_size"), keys.integer("patch_size")
    if size > _MAX_IMAGE_SIZE or not 1 <= patch <= _MAX_IMAGE_SIZE or (size and size < patch):
        raise GGUFError(f"the projector declares images of {size} pixels with patches of {patch} pixels")
    for key in ("image_mean", "image_std"):
        values = header.array(f"clip.vision.{key}")
        if len(values) < CHANNELS or not all(map(math.isfinite, values)):
            raise GGUFError(f'metadata key "clip.vision.{key}" is not {CHANNELS} finite numbers')
    least, most = keys.integer("image_min_pixels"), keys.integer("image_max_pixels")
    if most and least > most:
        raise GGUFError(f"the projector declares images of at least {least} and at most {most} pixels")
