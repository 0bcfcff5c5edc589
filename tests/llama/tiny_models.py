"""GGUF files of models with random weights, for tests of an architecture's memory.

Their vocabulary: three special tokens, the 256 bytes, 256 short words, and special tokens of the test.
"""

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

EMBEDDING = 64
LAYERS = 2
_WORDS = [f"w{number:02x} " for number in range(256)]


class _Writer:
    def __init__(
        self,
        path: Path,
        architecture: str,
        context: int,
        special: Mapping[str, gguf.TokenType] | None = None,
        kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    ) -> None:
        self.gguf = gguf.GGUFWriter(path, architecture)
        self._random = np.random.default_rng(7)
        self._kind = kind
        self.gguf.add_context_length(context)
        self.gguf.add_embedding_length(EMBEDDING)
        self.gguf.add_block_count(LAYERS)
        self.gguf.add_layer_norm_rms_eps(1e-5)
        size = self._add_vocabulary(special or {})
        self.add("token_embd.weight", size, EMBEDDING, scale=0.05)
        self.ones("output_norm.weight", EMBEDDING)

    def _add_vocabulary(self, special: Mapping[str, gguf.TokenType]) -> int:
        """Add the tokens and return their number."""
        kinds = gguf.TokenType
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *_WORDS, *special]
        self.gguf.add_tokenizer_model("llama")
        self.gguf.add_token_list(tokens)
        self.gguf.add_token_scores([0.0] * len(tokens))
        self.gguf.add_token_types(
            [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL]
            + [kinds.BYTE] * 256
            + [kinds.NORMAL] * len(_WORDS)
            + list(special.values())
        )
        self.gguf.add_bos_token_id(1)
        self.gguf.add_eos_token_id(2)
        self.gguf.add_unk_token_id(0)
        self.gguf.add_add_space_prefix(False)
        return len(tokens)

    def add(self, name: str, *shape: int, scale: float = 0.3) -> None:
        values = self._random.normal(0, scale, shape).astype(np.float32)
        self.gguf.add_tensor(name, gguf.quants.quantize(values, self._kind), raw_dtype=self._kind)

    def ones(self, name: str, *shape: int, value: float = 1.0) -> None:
        self.gguf.add_tensor(name, np.full(shape, value, dtype=np.float32))

    def add_transformer_block(self, block: str, attention: int, feed_forward: int) -> None:
        for name in ("attn_q", "attn_k", "attn_v"):
            self.add(f"{block}{name}.weight", attention, EMBEDDING)
        self.add(block + "attn_output.weight", EMBEDDING, attention)
        self.add(block + "ffn_gate.weight", feed_forward, EMBEDDING)
        self.add(block + "ffn_up.weight", feed_forward, EMBEDDING)
        self.add(block + "ffn_down.weight", EMBEDDING, feed_forward)

    def finish(self) -> None:
        self.gguf.write_header_to_file()
        self.gguf.write_kv_data_to_file()
        self.gguf.write_tensors_to_file()
        self.gguf.close()


def write_mamba(path: Path) -> None:
    """Write a recurrent model, whose memory is one state."""
    inner, state, rank, kernel = 128, 16, 4, 4
    writer = _Writer(path, "mamba", context=4096)
    writer.gguf.add_feed_forward_length(0)
    writer.gguf.add_head_count(0)
    writer.gguf.add_ssm_conv_kernel(kernel)
    writer.gguf.add_ssm_inner_size(inner)
    writer.gguf.add_ssm_state_size(state)
    writer.gguf.add_ssm_time_step_rank(rank)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        writer.ones(block + "attn_norm.weight", EMBEDDING)
        writer.add(block + "ssm_in.weight", 2 * inner, EMBEDDING)
        writer.add(block + "ssm_conv1d.weight", inner, kernel)
        writer.add(block + "ssm_conv1d.bias", inner)
        writer.add(block + "ssm_x.weight", rank + 2 * state, inner)
        writer.add(block + "ssm_dt.weight", inner, rank)
        writer.add(block + "ssm_dt.bias", inner)
        # Small, so that early tokens have an effect.
        writer.ones(block + "ssm_a", inner, state, value=-0.05)
        writer.ones(block + "ssm_d", inner)
        writer.add(block + "ssm_out.weight", EMBEDDING, inner)
    writer.finish()


def write_gemma2(
    path: Path,
    window: int,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    special: Mapping[str, gguf.TokenType] | None = None,
) -> None:
    """Write a model of which every other layer attends to the last ``window`` tokens only."""
    heads, head, feed_forward = 4, 16, 128
    writer = _Writer(path, "gemma2", context=8192, special=special, kind=kind)
    writer.gguf.add_feed_forward_length(feed_forward)
    writer.gguf.add_head_count(heads)
    writer.gguf.add_head_count_kv(heads)
    writer.gguf.add_key_length(head)
    writer.gguf.add_value_length(head)
    writer.gguf.add_sliding_window(window)
    writer.gguf.add_attn_logit_softcapping(50.0)
    writer.gguf.add_final_logit_softcapping(30.0)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            writer.ones(f"{block}{norm}.weight", EMBEDDING)
        writer.add_transformer_block(block, heads * head, feed_forward)
    writer.finish()


def write_llama(
    path: Path,
    special: Mapping[str, gguf.TokenType] | None = None,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
) -> None:
    """Write a model with the tokens ``special`` beside those of all models here."""
    heads, head, feed_forward = 4, 16, 128
    writer = _Writer(path, "llama", context=1024, special=special, kind=kind)
    writer.gguf.add_feed_forward_length(feed_forward)
    writer.gguf.add_head_count(heads)
    writer.gguf.add_head_count_kv(heads)
    writer.gguf.add_rope_dimension_count(head)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.ones(f"{block}{norm}.weight", EMBEDDING)
        writer.add_transformer_block(block, heads * head, feed_forward)
    writer.finish()


def write_qwen3_ranker(path: Path) -> None:
    """Write a decoder that ranks.

    A query and a document are one text; of the probabilities of its two classes the first one is
    "relevant".
    """
    heads, head, feed_forward = 4, 16, 128
    writer = _Writer(path, "qwen3", context=512)
    writer.gguf.add_feed_forward_length(feed_forward)
    writer.gguf.add_head_count(heads)
    writer.gguf.add_head_count_kv(heads)
    writer.gguf.add_key_length(head)
    writer.gguf.add_value_length(head)
    writer.gguf.add_pooling_type(gguf.PoolingType.RANK)
    writer.gguf.add_classifier_output_labels(["yes", "no"])
    writer.gguf.add_string("tokenizer.chat_template.rerank", "<s>w00 {query}w01 {document}w02 </s>")
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.ones(f"{block}{norm}.weight", EMBEDDING)
        for norm in ("attn_q_norm", "attn_k_norm"):
            writer.ones(f"{block}{norm}.weight", head)
        writer.add_transformer_block(block, heads * head, feed_forward)
    writer.add("cls.output.weight", 2, EMBEDDING)
    writer.finish()
