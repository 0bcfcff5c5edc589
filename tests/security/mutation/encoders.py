"""Projectors of common types with random weights, for the text model of ``tests/llama/tiny_vision.py``."""

from pathlib import Path

import gguf
import numpy as np

_SIZE = 32
_INNER = 64
_LAYERS = 2
_HEADS = 2
_PATCH = 14
_PATCHES = 4

TYPES = ("gemma3", "idefics3", "internvl", "pixtral", "qwen2.5vl_merger")


def write_encoder(path: Path, kind: str) -> None:
    """Write a projector of one of ``TYPES``."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("general.type", "mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", kind)
    numbers = {
        "image_size": _PATCH * _PATCHES,
        "patch_size": _PATCH,
        "embedding_length": _SIZE,
        "feed_forward_length": _INNER,
        "projection_dim": _SIZE,
        "block_count": _LAYERS,
        "attention.head_count": _HEADS,
    }
    if kind == "qwen2.5vl_merger":
        numbers |= {"n_wa_pattern": 2, "window_size": 4 * _PATCH}
    elif kind == "pixtral":
        numbers["spatial_merge_size"] = 2
    else:
        numbers["projector.scale_factor"] = 2
    for key, value in numbers.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_bool("clip.use_gelu", kind != "qwen2.5vl_merger")
    writer.add_bool("clip.use_silu", kind == "qwen2.5vl_merger")
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.25, 0.25, 0.25])
    random = np.random.default_rng(5)

    def add(name: str, *shape: int) -> None:
        scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        writer.add_tensor(name, random.normal(0, scale, shape).astype(np.float32))

    def linear(name: str, rows: int, columns: int, *, bias: bool = True) -> None:
        add(f"{name}.weight", rows, columns)
        if bias:
            add(f"{name}.bias", rows)

    def norm(name: str, size: int = _SIZE, *, bias: bool = True) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(size, dtype=np.float32))
        if bias:
            add(f"{name}.bias", size)

    rms = kind in ("pixtral", "qwen2.5vl_merger")
    add("v.patch_embd.weight", _SIZE, 3, _PATCH, _PATCH)
    if kind == "qwen2.5vl_merger":
        add("v.patch_embd.weight.1", _SIZE, 3, _PATCH, _PATCH)
    elif kind != "pixtral":
        add("v.position_embd.weight", _PATCHES**2 + (kind == "internvl"), _SIZE)
    if kind == "internvl":
        add("v.class_embd", _SIZE)
    for layer in range(_LAYERS):
        block = f"v.blk.{layer}."
        norm(f"{block}ln1", bias=not rms)
        norm(f"{block}ln2", bias=not rms)
        if kind == "internvl":
            linear(f"{block}attn_qkv", 3 * _SIZE, _SIZE)
            add(f"{block}ls1.weight", _SIZE)
            add(f"{block}ls2.weight", _SIZE)
        else:
            for name in ("attn_q", "attn_k", "attn_v"):
                linear(f"{block}{name}", _SIZE, _SIZE, bias=kind != "pixtral")
        linear(f"{block}attn_out", _SIZE, _SIZE, bias=kind != "pixtral")
        linear(f"{block}ffn_up", _INNER, _SIZE, bias=kind != "pixtral")
        linear(f"{block}ffn_down", _SIZE, _INNER, bias=kind != "pixtral")
        if rms:
            linear(f"{block}ffn_gate", _INNER, _SIZE, bias=kind != "pixtral")
    merged = 4 * _SIZE
    if kind == "gemma3":
        norm("v.post_ln")
        add("mm.input_projection.weight", _SIZE, _SIZE)
        norm("mm.soft_emb_norm", bias=False)
    elif kind == "idefics3":
        norm("v.post_ln")
        linear("mm.model.fc", _SIZE, merged, bias=False)
    elif kind == "internvl":
        norm("mm.model.mlp.0", merged)
        linear("mm.model.mlp.1", _SIZE, merged)
        linear("mm.model.mlp.3", _SIZE, _SIZE)
    elif kind == "pixtral":
        norm("v.pre_ln", bias=False)
        norm("mm.input_norm", bias=False)
        linear("mm.patch_merger", _SIZE, merged, bias=False)
        linear("mm.1", _SIZE, _SIZE, bias=False)
        linear("mm.2", _SIZE, _SIZE, bias=False)
        add("v.token_embd.img_break", _SIZE)
    else:
        norm("v.post_ln", bias=False)
        linear("mm.0", merged, merged)
        linear("mm.2", _SIZE, merged)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
