"""Random changes of a GGUF file: values, types, keys, shapes, offsets, token ids, weights, bytes.

Each operator takes the random generator and the document, changes the document, and returns what it did.
"""

import math
import random
import struct
from collections.abc import Callable

from tests.security.mutation.document import ARRAY, BOOLEAN, FLOATS, INTEGERS, STRING, Document, Items

_FLOATS = (0.0, -1.0, 1.0, math.nan, math.inf, -math.inf, 1e38, 1e-38, 1e300)
_TEXTS = ("", "x", "none", "llama", "gpt2", "bert", "t5", "clip", "mlp", "\0", "é" * 40, "a" * 5000)
_TYPES = (0, 1, 2, 8, 9, 10, 12, 14, 15, 16, 20, 24, 25, 26, 27, 28, 30, 34, 39, 40)
_F32 = 0


def _integer(choice: random.Random, value: int) -> int:
    near = (value - 1, value + 1, 2 * value, value // 2, 3 * value, value ^ 1)
    far = (0, 1, 2, 3, 7, 255, 65535, 65536, 1 << 24, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, -1, -2)
    return choice.choice(near if choice.random() < 0.5 else far)


def _scalar(choice: random.Random, kind: int, value: object) -> object:
    if kind == STRING:
        return choice.choice(_TEXTS)
    if kind == BOOLEAN:
        return choice.choice((not value, 2, 255))
    if kind in FLOATS:
        return choice.choice((*_FLOATS, float(value) * choice.choice((-1, 10, 1e-6))))  # type: ignore[arg-type]
    return _integer(choice, int(value))  # type: ignore[call-overload]


def change_value(choice: random.Random, document: Document) -> str:
    """Change the value of a key, or an item, the length or the order of an array."""
    key = choice.choice(list(document.metadata))
    kind, value = document.metadata[key]
    if kind != ARRAY:
        changed = _scalar(choice, kind, value)
        document.metadata[key] = (kind, changed)
        return f"{key} = {str(changed)[:40]!r}"
    values = list(value.values)
    what = choice.randrange(6)
    if what == 0 or not values:
        values = []
    elif what == 1:
        values = values[: choice.randrange(len(values))]
    elif what == 2:
        values = values + values[: 1 + choice.randrange(len(values))]
    elif what == 3:
        choice.shuffle(values)
    else:
        for _ in range(choice.choice((1, 1, 4, len(values)))):
            place = choice.randrange(len(values))
            values[place] = _scalar(choice, value.kind, values[place])
    document.metadata[key] = (kind, Items(value.kind, values))
    return f"{key}: array changed ({what})"


def change_type(choice: random.Random, document: Document) -> str:
    """Give a key a value of another type."""
    key = choice.choice(list(document.metadata))
    _, value = document.metadata[key]
    kind = choice.choice((*INTEGERS, *FLOATS, BOOLEAN, STRING, ARRAY))
    number = value if isinstance(value, int | float) and math.isfinite(value) else choice.randrange(9)
    if kind == ARRAY:
        item = choice.choice((4, 5, 6, 7, 8, 0, 10))
        count = choice.choice((0, 1, 2, 3, 64, 600))
        document.metadata[key] = (ARRAY, Items(item, ["x" if item == STRING else number] * count))
    elif kind == STRING:
        document.metadata[key] = (STRING, choice.choice(_TEXTS))
    else:
        document.metadata[key] = (kind, number)
    return f"{key}: type {kind}"


def remove_key(choice: random.Random, document: Document) -> str:
    """Remove a key."""
    key = choice.choice(list(document.metadata))
    del document.metadata[key]
    return f"{key} removed"


def rename_key(choice: random.Random, document: Document) -> str:
    """Give a key's value to another key of the file, or to an unknown one."""
    key, other = choice.choice(list(document.metadata)), choice.choice([*document.metadata, "x.y"])
    document.metadata[other] = document.metadata.pop(key)
    return f"{key} renamed {other}"


def change_shape(choice: random.Random, document: Document) -> str:
    """Change the shape of a tensor; often with as many elements as before."""
    tensor = choice.choice(document.tensors)
    shape = tensor.shape
    what = choice.randrange(8)
    place = choice.randrange(len(shape)) if shape else 0
    if what == 0:
        shape.reverse()
    elif what == 1:
        choice.shuffle(shape)
    elif what == 2 and shape:
        shape[place] = max(0, _integer(choice, shape[place]))
    elif what == 3 and shape:
        shape[place] = choice.choice((0, 1, 2, 32, 64, 2**31, 2**32, 2**62))
    elif what == 4:
        shape.append(1)
    elif what == 5:
        shape.insert(place, 1)
    elif what == 6:
        tensor.shape = [math.prod(shape)]
    elif shape and shape[place] % 2 == 0:
        shape[place] //= 2
    return f"{tensor.name}: shape {tensor.shape}"


def change_tensor_type(choice: random.Random, document: Document) -> str:
    """Change the type of a tensor, with bytes enough for it."""
    tensor = choice.choice(document.tensors)
    tensor.kind = choice.choice(_TYPES)
    tensor.data = (tensor.data * 2)[: 2 * len(tensor.data)]
    return f"{tensor.name}: type {tensor.kind}"


def remove_tensor(choice: random.Random, document: Document) -> str:
    """Remove a tensor, or all with its suffix."""
    name = choice.choice(document.tensors).name
    suffix = name.rsplit(".", 2)[-2:]
    every = choice.random() < 0.2
    document.tensors = [
        tensor
        for tensor in document.tensors
        if tensor.name != name and not (every and tensor.name.rsplit(".", 2)[-2:] == suffix)
    ]
    return f"{name} removed{' everywhere' if every else ''}"


def rename_tensor(choice: random.Random, document: Document) -> str:
    """Swap the names of two tensors, or give one another layer, suffix or a new name."""
    first, second = choice.choice(document.tensors), choice.choice(document.tensors)
    what = choice.randrange(4)
    old = first.name
    if what == 0:
        first.name, second.name = second.name, first.name
    elif what == 1:
        first.name = old.replace(".0.", ".1.") if ".0." in old else old.replace(".1.", ".7.")
    elif what == 2:
        first.name = old.replace("weight", "bias") if "weight" in old else old.replace("bias", "weight")
    else:
        first.name = choice.choice(
            ("", "x", old + ".x", old[:-1], "a" * 200, "v.class_embd", "mm.model.mlp.1.weight")
        )
    return f"{old} renamed {first.name[:40]}"


def copy_tensor(choice: random.Random, document: Document) -> str:
    """Add a copy of a tensor under another name."""
    tensor = choice.choice(document.tensors)
    extra = choice.choice(_OPTIONAL)
    name = extra.format(choice.randrange(2))
    twin = Document(tensors=[tensor]).copy().tensors[0]
    twin.name = name
    document.tensors.append(twin)
    return f"{tensor.name} copied to {name}"


def change_offset(choice: random.Random, document: Document) -> str:
    """Move the data of a tensor: over another one, beyond the end, or misaligned."""
    tensor = choice.choice(document.tensors)
    tensor.offset = choice.choice((0, 32, 64, 1, 31, 4096, 1 << 20, 2**31, 2**32, 2**63, 2**64 - 32))
    return f"{tensor.name}: offset {tensor.offset}"


def change_weights(choice: random.Random, document: Document) -> str:
    """Fill a tensor, or a part of it, with NaN, infinity, huge or tiny numbers, or random bytes."""
    tensor = choice.choice(document.tensors)
    data = bytearray(tensor.data)
    if tensor.kind == _F32:
        pattern = struct.pack("<f", choice.choice((math.nan, math.inf, -math.inf, 1e38, 1e-40, 0.0, -1.0)))
        count = len(data) // 4
        begin = choice.randrange(count) if count else 0
        length = choice.choice((1, count)) if count else 0
        data[4 * begin : 4 * (begin + length)] = pattern * min(length, count - begin)
    else:
        data = bytearray(choice.randbytes(len(data)))
    tensor.data = bytes(data)
    return f"{tensor.name}: weights"


def add_key(choice: random.Random, document: Document) -> str:
    """Add an optional key of the architecture or of the tokenizer with a value that may be absurd."""
    kind, architecture = document.metadata.get("general.architecture", (STRING, "llama"))
    prefix = architecture if kind == STRING else "llama"
    key = choice.choice(_KEYS).format(prefix)
    count = choice.choice((1, 2, 3, 4, 64))
    options: tuple[tuple[int, object], ...] = (
        (4, _integer(choice, choice.choice((0, 1, 2, 4, 16, 32, 64, 300)))),
        (5, _integer(choice, 1)),
        (6, choice.choice(_FLOATS)),
        (BOOLEAN, choice.random() < 0.5),
        (STRING, choice.choice((*_TEXTS, "linear", "yarn", "longrope"))),
        (ARRAY, Items(4, [_integer(choice, 2) for _ in range(count)])),
        (ARRAY, Items(5, [_integer(choice, 2) for _ in range(count)])),
        (ARRAY, Items(6, [choice.choice(_FLOATS) for _ in range(count)])),
    )
    # Twice as often the type that most keys have.
    document.metadata[key] = choice.choice((*options, options[0], options[0]))
    return f"{key} added: {str(document.metadata[key])[:60]}"


_KEYS = (
    "{}.attention.head_count", "{}.attention.head_count_kv", "{}.attention.key_length",
    "{}.attention.value_length", "{}.attention.layer_norm_rms_epsilon",
    "{}.attention.layer_norm_epsilon", "{}.attention.causal", "{}.attention.sliding_window",
    "{}.attention.sliding_window_pattern", "{}.attention.scale", "{}.attention.group_norm_groups",
    "{}.attention.max_alibi_bias", "{}.attention.clamp_kqv", "{}.attention.temperature_length",
    "{}.attention.shared_kv_layers", "{}.rope.dimension_count", "{}.rope.freq_base",
    "{}.rope.scaling.type", "{}.rope.scaling.factor", "{}.rope.scaling.original_context_length",
    "{}.rope.dimension_sections", "{}.rope.scaling.attn_factor", "{}.rope.scaling.yarn_log_multiplier",
    "{}.rope.dimension_count_swa", "{}.rope.freq_base_swa", "{}.expert_count", "{}.expert_used_count",
    "{}.expert_feed_forward_length", "{}.expert_group_count", "{}.expert_shared_count",
    "{}.leading_dense_block_count", "{}.pooling_type", "{}.vocab_size", "{}.feed_forward_length",
    "{}.use_parallel_residual", "{}.tensor_data_layout", "{}.logit_scale", "{}.residual_scale",
    "{}.embedding_scale", "{}.final_logit_softcapping", "{}.attn_logit_softcapping",
    "{}.decoder_start_token_id", "{}.ssm.conv_kernel", "{}.ssm.inner_size", "{}.ssm.state_size",
    "{}.ssm.time_step_rank", "{}.ssm.group_count", "{}.nextn_predict_layers",
    "{}.full_attention_interval", "{}.dense_2_feat_in", "{}.embedding_length_out",
    "{}.embedding_length_per_layer_input", "{}.token_shift_count", "{}.swin_norm", "{}.features_length",
    "{}.posnet.block_count", "{}.interleave_moe_layer_step", "{}.decoder_block_count",
    "{}.classifier.output_labels", "{}.vision.attention.head_count_kv", "{}.vision.attention.head_dim",
    "{}.vision.image_min_pixels", "{}.vision.image_max_pixels", "{}.vision.spatial_merge_size",
    "{}.vision.window_size", "{}.vision.n_wa_pattern", "{}.vision.wa_layer_indexes",
    "{}.vision.feature_layer", "{}.vision.projector.scale_factor", "{}.vision.image_grid_pinpoints",
    "{}.vision.mm_patch_merge_type", "{}.vision.projector_type", "{}.vision.preproc_image_size",
    "{}.vision.preproc_max_tiles", "{}.has_audio_encoder", "{}.use_silu", "{}.minicpmv_version",
    "{}.minicpmv_query_num", "{}.projector_type", "adapter.type", "adapter.lora.alpha",
    "adapter.alora.invocation_tokens", "general.alignment", "general.type", "split.count", "split.no",
    "split.tensors.count", "general.file_type", "general.architecture", "tokenizer.ggml.model",
    "tokenizer.ggml.pre", "tokenizer.ggml.token_type", "tokenizer.ggml.token_type_count",
    "tokenizer.ggml.scores", "tokenizer.ggml.merges", "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.padding_token_id", "tokenizer.ggml.mask_token_id", "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_sep_token", "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id",
    "tokenizer.ggml.prefix_token_id", "tokenizer.ggml.suffix_token_id",
    "tokenizer.ggml.escape_whitespaces", "tokenizer.rwkv.world", "tokenizer.chat_template",
)  # fmt: skip

_OPTIONAL = (
    "output.weight", "output.bias", "output_norm.bias", "token_embd_norm.weight",
    "token_embd_norm.bias", "rope_freqs.weight", "rope_factors_long.weight",
    "rope_factors_short.weight", "blk.{}.attn_q.bias", "blk.{}.attn_k.bias", "blk.{}.attn_v.bias",
    "blk.{}.attn_output.bias", "blk.{}.attn_qkv.weight", "blk.{}.attn_q_norm.weight",
    "blk.{}.attn_k_norm.weight", "blk.{}.ffn_gate_inp.weight", "blk.{}.ffn_gate_exps.weight",
    "blk.{}.ffn_up_exps.weight", "blk.{}.ffn_down_exps.weight", "blk.{}.ffn_up.bias",
    "blk.{}.ffn_down.bias", "blk.{}.ffn_gate.bias", "blk.{}.attn_q.scale", "blk.{}.ffn_down.scale",
    "blk.{}.attn_norm.bias", "blk.{}.attn_norm_2.weight", "cls.weight", "cls.output.weight",
    "v.class_embd", "v.pre_ln.weight", "v.pre_ln.bias", "v.post_ln.weight", "v.patch_embd.bias",
    "v.patch_embd.weight.1", "v.position_embd.weight", "v.blk.{}.attn_qkv.weight",
    "v.blk.{}.attn_q_norm.weight", "v.blk.{}.attn_k_norm.weight", "v.blk.{}.ls1.weight",
    "v.blk.{}.ls2.weight", "v.blk.{}.ffn_gate.weight", "v.blk.{}.ffn_gate.bias",
    "v.blk.{}.attn_qkv.bias", "mm.1.weight", "mm.1.bias", "mm.3.weight", "mm.4.weight",
    "v.image_newline", "model.image_newline", "mm.input_norm.weight", "mm.input_projection.weight",
    "mm.patch_merger.weight", "token_embd.weight.lora_a", "token_embd.weight.lora_b",
    "output_norm.weight.lora_a", "blk.{}.attn_q.weight.lora_a", "blk.{}.attn_k.weight.lora_b",
    "blk.{}.attn_norm.weight",
)  # fmt: skip

OPERATORS: tuple[tuple[int, Callable[[random.Random, Document], str]], ...] = (
    (8, change_value),
    (3, change_type),
    (2, remove_key),
    (1, rename_key),
    (4, add_key),
    (6, change_shape),
    (3, change_tensor_type),
    (2, remove_tensor),
    (2, rename_tensor),
    (2, copy_tensor),
    (2, change_offset),
    (2, change_weights),
)


def mutate(choice: random.Random, seed: Document) -> tuple[bytes, str]:
    """Return a file with one to three changes, and their description; some files are damaged as bytes."""
    document = seed.copy()
    weights = [weight for weight, _ in OPERATORS]
    made = []
    for _ in range(choice.choice((1, 1, 1, 2, 3))):
        if not document.tensors or not document.metadata:
            break
        (_, operator), *_ = choice.choices(OPERATORS, weights)
        made.append(operator(choice, document))
    data = document.encode()
    if choice.random() < 0.1:
        data = _damage(choice, data)
        made.append("bytes damaged")
    return data, "; ".join(made)


def _damage(choice: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    head = min(len(damaged), 6000)
    for _ in range(choice.choice((1, 2, 8))):
        damaged[choice.randrange(head)] = choice.randrange(256)
    return bytes(damaged[: choice.randrange(24, len(damaged))] if choice.random() < 0.2 else damaged)
