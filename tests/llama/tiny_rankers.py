"""GGUF files of tiny models with random weights that rank documents.

A BERT with a classifier of two layers, as cross-encoders have it. Its vocabulary: five special
tokens, the 26 letters as beginnings and as continuations of words, and 256 short words.
"""

from pathlib import Path

import gguf
import numpy as np

_EMBEDDING = 64
_HEADS = 4
_FEED_FORWARD = 128
_LAYERS = 2
_CONTEXT = 128
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# llama.cpp marks the beginning of a word, where BERT's own files mark the continuation.
_WORDS = [
    *(f"\u2581{letter}" for letter in _LETTERS),
    *_LETTERS,
    *(f"\u2581w{number:02x}" for number in range(256)),
]
_PAD, _UNKNOWN, _BEGIN, _SEPARATOR, _MASK = range(len(_SPECIAL))


def write_ranker(path: Path, *, template: str = "") -> None:
    """Write a reranker; with a ``template`` a query and a document are one text, else a pair."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_EMBEDDING)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    _add_vocabulary(writer)
    if template:
        writer.add_string("tokenizer.chat_template.rerank", template)
    _add_tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    kinds = gguf.TokenType
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list([*_SPECIAL, *_WORDS])
    writer.add_token_types([kinds.CONTROL] * len(_SPECIAL) + [kinds.NORMAL] * len(_WORDS))
    writer.add_token_type_count(2)
    writer.add_pad_token_id(_PAD)
    writer.add_unk_token_id(_UNKNOWN)
    writer.add_bos_token_id(_BEGIN)
    writer.add_sep_token_id(_SEPARATOR)
    writer.add_mask_token_id(_MASK)
    # [CLS] query [SEP] document [SEP]: without an end token of its own the separator is the end.
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(False)


def _add_tensors(writer: gguf.GGUFWriter) -> None:
    random = np.random.default_rng(11)

    def add(name: str, *shape: int, scale: float = 0.15) -> None:
        writer.add_tensor(name, random.normal(0, scale, shape).astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(_EMBEDDING, dtype=np.float32))
        add(f"{name}.bias", _EMBEDDING, scale=0.1)

    add("token_embd.weight", len(_SPECIAL) + len(_WORDS), _EMBEDDING, scale=1.0)
    add("token_types.weight", 2, _EMBEDDING)
    add("position_embd.weight", _CONTEXT, _EMBEDDING)
    norm("token_embd_norm")
    for layer in range(_LAYERS):
        block = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{block}{name}.weight", _EMBEDDING, _EMBEDDING)
            add(f"{block}{name}.bias", _EMBEDDING)
        norm(f"{block}attn_output_norm")
        add(f"{block}ffn_up.weight", _FEED_FORWARD, _EMBEDDING)
        add(f"{block}ffn_up.bias", _FEED_FORWARD)
        add(f"{block}ffn_down.weight", _EMBEDDING, _FEED_FORWARD)
        add(f"{block}ffn_down.bias", _EMBEDDING)
        norm(f"{block}layer_output_norm")
    add("cls.weight", _EMBEDDING, _EMBEDDING)
    add("cls.bias", _EMBEDDING)
    add("cls.output.weight", 1, _EMBEDDING, scale=0.5)
    add("cls.output.bias", 1)
