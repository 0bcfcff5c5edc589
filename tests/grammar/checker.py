"""Checks of texts by llama.cpp's own grammar engine, over a vocabulary of the 256 bytes."""

import ctypes
import functools
import tempfile
from pathlib import Path
from typing import Any

import gguf
import llama_cpp

_END = 2
_FIRST_BYTE = 3


def write_vocabulary(path: Path) -> None:
    """Write a model file with the vocabulary of the bytes, and no weights."""
    writer = gguf.GGUFWriter(path, "llama")
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([*kinds, *[gguf.TokenType.BYTE] * 256])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(_END)
    writer.add_unk_token_id(0)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@functools.cache
def _vocabulary() -> Any:
    llama_cpp.llama_backend_init()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bytes.gguf"
        write_vocabulary(path)
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model, "llama.cpp refused the vocabulary of bytes"
    return llama_cpp.llama_model_get_vocab(model)


class Engine:
    """State of a grammar in llama.cpp within a text; ``accepted`` is False for an invalid grammar."""

    def __init__(self, grammar: str) -> None:
        self._sampler = llama_cpp.llama_sampler_init_grammar(_vocabulary(), grammar.encode(), b"root")
        self.accepted = bool(self._sampler)

    def close(self) -> None:
        if self._sampler:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None

    def next_bytes(self) -> tuple[list[int], bool]:
        """Return the bytes that may come next, and True if the text may end here."""
        tokens = [_END, *range(_FIRST_BYTE, _FIRST_BYTE + 256)]
        allowed = self._allowed(tokens)
        return [token - _FIRST_BYTE for token in tokens[1:] if token in allowed], _END in allowed

    def may_end(self) -> bool:
        return bool(self._allowed([_END]))

    def push(self, byte: int) -> bool:
        """Append this byte and return True if it may come next; else return False."""
        token = _FIRST_BYTE + byte
        if not self._allowed([token]):
            return False
        llama_cpp.llama_sampler_accept(self._sampler, token)
        return True

    def _allowed(self, tokens: list[int]) -> set[int]:
        entries = (llama_cpp.llama_token_data * len(tokens))()
        for entry, token in zip(entries, tokens, strict=True):
            entry.id = token
        array = llama_cpp.llama_token_data_array(data=entries, size=len(tokens), selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(self._sampler, ctypes.byref(array))
        return {int(entry.id) for entry in entries if entry.logit != float("-inf")}


def matches(grammar: str, text: str | bytes) -> bool:
    """Return True if ``text`` is a complete text of the grammar."""
    engine = Engine(grammar)
    assert engine.accepted, f"llama.cpp refused the grammar:\n{grammar}"
    try:
        data = text.encode() if isinstance(text, str) else text
        return all(engine.push(byte) for byte in data) and engine.may_end()
    finally:
        engine.close()
