"""Round trip of a real model: GGUF to transformers' files and back."""

from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

from ollama_tw.convert import convert_model
from ollama_tw.gguf.reader import read_header
from ollama_tw.llama.vocabulary_file import FileVocabulary
from tests.convert.engine import converted, logits
from tests.convert.sets import Array, write_set
from tests.convert.test_tokenizers import tokenizer_of

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 30,
    "max_position_embeddings": 8192,
    "vocab_size": 49152,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
}
MODULES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def weights(smollm2_gguf: str) -> dict[str, Array]:
    """Return SmolLM2's weights dequantized and under transformers' names."""
    found = {}
    for tensor in gguf.GGUFReader(smollm2_gguf).tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        name = NAMES.get(tensor.name)
        if name is None:
            _, layer, module, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{MODULES[module]}.weight"
            if module in ("attn_q", "attn_k"):
                # The even rows of a head are its first half, the odd ones its second.
                heads = values.reshape(-1, 64, 576)
                values = np.concatenate([heads[:, 0::2], heads[:, 1::2]], 1).reshape(-1, 576)
        found[name] = values.astype(np.float16)
    return found


def test_logits_correlate_with_the_original(smollm2_gguf: str, tmp_path: Path) -> None:
    documents = {
        "config.json": CONFIG,
        "tokenizer.json": tokenizer_of(read_header(Path(smollm2_gguf)), pairs=False),
        "tokenizer_config.json": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
    }
    files = write_set(tmp_path, documents, weights(smollm2_gguf))
    path = converted(tmp_path / "m.gguf", lambda write: convert_model(files, write))
    text = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\nThe capital of"
    tokens = list(FileVocabulary(str(path)).tokenize(text))
    assert tokens == list(FileVocabulary(smollm2_gguf).tokenize(text))
    ours, theirs = logits(path, tokens), logits(Path(smollm2_gguf), tokens)
    # The original's activations are rounded to 8 bits, ours are not.
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.995
    assert FileVocabulary(str(path)).detokenize([int(ours[-1].argmax())]) == " France"
    for file in (path, files["model.safetensors"]):
        file.unlink()
