"""GGUF files of vision models with random weights and two layers.

One is like LLaVA, with four tokens for an image; the other like Qwen2-VL, whose image positions have
two dimensions (M-RoPE), so that an image occupies fewer positions than it has tokens.
"""

from pathlib import Path

import gguf
import numpy as np

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

_SIZE = 32
_FEED_FORWARD = 64
_LAYERS = 2
_HEADS = 2
_IMAGE = 28
_PATCH = 14


def write_text_model(path: Path, *, qwen: bool = False, chat_template: str = "") -> Path:
    """Answers with letters only: to all other tokens it gives the same low logit."""
    tokens: list[tuple[str, gguf.TokenType]] = [
        ("<unk>", gguf.TokenType.UNKNOWN),
        ("<s>", gguf.TokenType.CONTROL),
        ("</s>", gguf.TokenType.CONTROL),
        *((f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)),
        *((letter, gguf.TokenType.NORMAL) for letter in LETTERS),
    ]
    writer = gguf.GGUFWriter(path, "qwen2vl" if qwen else "llama")
    if qwen:
        writer.add_rope_dimension_sections([4, 2, 2, 0])
    writer.add_context_length(512)
    writer.add_embedding_length(_SIZE)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    if chat_template:
        writer.add_chat_template(chat_template)
    random = np.random.default_rng(7)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32))

    writer.add_tensor("token_embd.weight", random.normal(0, 1, (len(tokens), _SIZE)).astype(np.float32))
    output = random.normal(0, 1, (len(tokens), _SIZE)).astype(np.float32)
    output[: -len(LETTERS)] = 0
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(_SIZE, dtype=np.float32))
    for layer in range(_LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(_SIZE, dtype=np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}.weight", _SIZE, _SIZE)
        for name in ("ffn_gate", "ffn_up"):
            add(f"blk.{layer}.{name}.weight", _FEED_FORWARD, _SIZE)
        add(f"blk.{layer}.ffn_down.weight", _SIZE, _FEED_FORWARD)
    return _written(writer, path)


def write_projector(
    path: Path, *, qwen: bool = False, type_key: str = "clip.projector_type", audio: bool = False
) -> Path:
    """Write the projector for one of the text models.

    ``type_key`` declares its type, "" leaves it out; with ``audio`` it declares an encoder of audio too.
    """
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("general.type", "mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_name("tiny")
    if type_key:
        writer.add_string(type_key, "qwen2vl_merger" if qwen else "mlp")
    if audio:
        writer.add_bool("clip.has_audio_encoder", True)
        for key in (
            "embedding_length", "feed_forward_length", "block_count", "projection_dim", "attention.head_count"
        ):  # fmt: skip
            writer.add_uint32(f"clip.audio.{key}", 1)
        writer.add_float32("clip.audio.attention.layer_norm_epsilon", 1e-5)
    writer.add_bool("clip.use_gelu", True)
    for key, value in (
        ("image_size", _IMAGE),
        ("patch_size", _PATCH),
        ("embedding_length", _SIZE),
        ("feed_forward_length", _FEED_FORWARD),
        ("projection_dim", _SIZE),
        ("block_count", _LAYERS),
        ("attention.head_count", _HEADS),
    ):
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.25, 0.25, 0.25])
    random = np.random.default_rng(11)

    def add(name: str, *shape: int) -> None:
        scale = 1 / np.sqrt(np.prod(shape[1:]))
        writer.add_tensor(f"{name}.weight", random.normal(0, scale, shape).astype(np.float32))

    def add_bias(name: str, size: int) -> None:
        writer.add_tensor(f"{name}.bias", np.zeros(size, dtype=np.float32))

    def add_norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(_SIZE, dtype=np.float32))
        add_bias(name, _SIZE)

    add("v.patch_embd", _SIZE, 3, _PATCH, _PATCH)
    if qwen:
        second = random.normal(0, 0.04, (_SIZE, 3, _PATCH, _PATCH)).astype(np.float32)
        writer.add_tensor("v.patch_embd.weight.1", second)
    else:
        add("v.position_embd", (_IMAGE // _PATCH) ** 2, _SIZE)
    add_norm("v.post_ln")
    for layer in range(_LAYERS):
        add_norm(f"v.blk.{layer}.ln1")
        add_norm(f"v.blk.{layer}.ln2")
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            add(f"v.blk.{layer}.{name}", _SIZE, _SIZE)
            add_bias(f"v.blk.{layer}.{name}", _SIZE)
        add(f"v.blk.{layer}.ffn_up", _FEED_FORWARD, _SIZE)
        add_bias(f"v.blk.{layer}.ffn_up", _FEED_FORWARD)
        add(f"v.blk.{layer}.ffn_down", _SIZE, _FEED_FORWARD)
        add_bias(f"v.blk.{layer}.ffn_down", _SIZE)
    # Qwen's joins four patches to one token.
    joined = 4 * _SIZE if qwen else _SIZE
    add("mm.0", joined, joined)
    add_bias("mm.0", joined)
    add("mm.2", _SIZE, joined)
    add_bias("mm.2", _SIZE)
    return _written(writer, path)


def _written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
