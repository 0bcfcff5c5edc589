"""Vocabulary of a loaded model: tokenization and detokenization."""

import ctypes
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from ollama_tw.interfaces import LoadError, RunnerError
from ollama_tw.llama.prefixes import Prefixes, build

Lengths = npt.NDArray[np.int32]

# INT32_MIN: the number of tokens overflows.
_OVERFLOW = -(2**31)

# Texts whose tokens are kept: a grammar forces the same keys again and again.
_SPELLED = 1024


class LlamaVocabulary:
    """The vocabulary of a model. Immutable: every method may be called on any thread.

    It is part of the model's memory: after :meth:`close` the methods raise :class:`RunnerError`. Raises
    :class:`LoadError` for a vocabulary that lacks a token which it adds to every text.
    """

    def __init__(self, model: Any) -> None:
        self._changed = threading.Condition()
        self._calls = 0
        self._closed = False
        self.handle: Any = llama_cpp.llama_model_get_vocab(model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self.handle)
        self.adds_bos: bool = llama_cpp.llama_vocab_get_add_bos(self.handle)
        self._check_added()
        self.bos_text = self._special(llama_cpp.llama_vocab_bos(self.handle))
        self.eos_text = self._special(llama_cpp.llama_vocab_eos(self.handle))
        self._begin, self._between, self._end = self._pair_delimiters()
        # Caches; two threads that fill one entry write the same value.
        self._pieces: dict[int, bytes] = {}
        self._spell = lru_cache(_SPELLED)(self._find_spelling)
        self._controls: dict[str, dict[int, bytes]] = {}
        self._prefixes: Future[Prefixes] | None = None
        self._lengths: Lengths | None = None
        self._ending: dict[int, bool] = {}
        self._ends: dict[str, bool] = {}

    def _check_added(self) -> None:
        """Check that the tokens exist which are added to every text: llama.cpp aborts without them."""
        kind = llama_cpp.llama_vocab_type(self.handle)
        if kind == llama_cpp.LLAMA_VOCAB_TYPE_RWKV:
            # Adds no token, whatever the file declares.
            return
        pairs = kind == llama_cpp.LLAMA_VOCAB_TYPE_WPM
        adds_eos = llama_cpp.llama_vocab_get_add_eos(self.handle)
        for name, token, added in (
            ("beginning", llama_cpp.llama_vocab_bos(self.handle), self.adds_bos or pairs),
            ("end", llama_cpp.llama_vocab_eos(self.handle), adds_eos and not pairs),
            ("end", llama_cpp.llama_vocab_sep(self.handle), pairs),
        ):
            if added and not 0 <= token < self.size:
                raise LoadError(f"the model's vocabulary adds a token at the {name} of a text, but has none")

    @contextmanager
    def keep_loaded(self) -> Iterator[None]:
        """Delay :meth:`close` until the end of the block. Raises :class:`RunnerError` after it.

        Needed around every use of the model's memory on a thread that may outlive the model.
        """
        with self._changed:
            if self._closed:
                raise RunnerError("the model was unloaded")
            self._calls += 1
        try:
            yield
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Refuse new calls and wait for the running ones, so that the model's memory can be freed.

        May be called again.
        """
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._calls)

    def _special(self, token: int) -> str:
        return self._piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def _pair_delimiters(self) -> tuple[list[int], list[int], list[int]]:
        """Return the tokens before, between and after a pair of texts, as in llama-server."""
        separator = llama_cpp.llama_vocab_sep(self.handle)
        end = llama_cpp.llama_vocab_eos(self.handle)
        begins = [llama_cpp.llama_vocab_bos(self.handle)] if self.adds_bos else []
        ends = [end if end >= 0 else separator] if llama_cpp.llama_vocab_get_add_eos(self.handle) else []
        separates = [separator] if llama_cpp.llama_vocab_get_add_sep(self.handle) else []
        # A vocabulary may require a token that it does not define.
        begin, between, after = (
            [token for token in tokens if token >= 0] for tokens in (begins, ends + separates, ends)
        )
        return begin, between, after

    def tokenize_pair(self, first: str, second: str) -> list[int]:
        """Return the tokens of a pair of texts with the model's delimiters.

        Special tokens in the texts are treated as plain text.
        """
        first_tokens = self.tokenize(first, add_special=False, parse_special=False)
        second_tokens = self.tokenize(second, add_special=False, parse_special=False)
        return [*self._begin, *first_tokens, *self._between, *second_tokens, *self._end]

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Return the tokens of ``text``.

        ``add_special`` adds the model's tokens at the beginning and the end; ``parse_special`` recognises
        special tokens in the text. Raises :class:`RunnerError`.
        """
        data = text.encode("utf-8", "replace")
        # Enough for a token per byte and the added ones. Only a vocabulary that encodes a space as three
        # bytes, without a token for it, needs more; llama_tokenize returns how many.
        capacity = len(data) + 8
        while True:
            tokens = (llama_cpp.llama_token * capacity)()
            with self.keep_loaded():
                count = llama_cpp.llama_tokenize(
                    self.handle, data, len(data), tokens, capacity, add_special, parse_special
                )
            if count >= 0:
                return tokens[:count]
            if -count <= capacity or count == _OVERFLOW:
                raise RunnerError("tokenizing the text failed")
            capacity = -count

    def check(self, token: int) -> None:
        """Raise :class:`RunnerError` if ``token`` is not in the vocabulary."""
        if not 0 <= token < self.size:
            raise RunnerError(f"token {token} is not in this model's vocabulary of {self.size} tokens")

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``, including special ones. Raises :class:`RunnerError`."""
        for token in tokens:
            self.check(token)
        array = (llama_cpp.llama_token * max(len(tokens), 1))(*tokens)
        capacity = 16 * len(tokens) + 16
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            with self.keep_loaded():
                count = llama_cpp.llama_detokenize(
                    self.handle, array, len(tokens), buffer, capacity, False, True
                )
            if count >= 0:
                return buffer.raw[:count].decode("utf-8", "replace")
            capacity = -count

    def piece(self, token: int) -> bytes:
        """Return the bytes that ``token`` adds to the output; none for control tokens."""
        data = self._pieces.get(token)
        if data is None:
            data = self._pieces[token] = self._piece(token, special=False)
        return data

    def written(self, token: int) -> bytes:
        """Return the bytes of the text of ``token``, also of a control token."""
        return self.piece(token) or self._piece(token, special=True)

    def spell(self, data: bytes) -> Sequence[int] | None:
        """Return tokens whose texts are exactly ``data``, None if none were found.

        Special tokens are recognised. A tokenizer that puts a space before a text gets a line break in front,
        which is cut off again.
        """
        return self._spell(data)

    def _find_spelling(self, data: bytes) -> Sequence[int] | None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        for front in ("", "\n"):
            tokens = self.tokenize(front + text, add_special=False)
            for begin in range(min(len(tokens), 4)):
                if b"".join(map(self.written, tokens[begin:])) == data:
                    return tuple(tokens[begin:])
        return None

    def prefixes(self) -> "Future[Prefixes]":
        """Return the order in which grammars try the tokens; the first call starts to build it."""
        with self._changed:
            if self._prefixes is None:
                self._prefixes = build(self._texts_and_ends)
            return self._prefixes

    def lengths(self) -> Lengths:
        """Return the number of characters of each token, 0 for those that are more than text."""
        if self._lengths is None:
            kinds = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
            counts = [len(text.decode("utf-8", "replace")) for text in self._texts()]
            with self.keep_loaded():
                for token in range(self.size):
                    if llama_cpp.llama_vocab_get_attr(self.handle, token) & kinds:
                        counts[token] = 0
            self._lengths = np.array(counts, dtype=np.int32)
        return self._lengths

    def _texts(self) -> list[bytes]:
        """Return the texts of all tokens as :meth:`written` does, without a cache of them."""
        capacity = 65536
        buffer = ctypes.create_string_buffer(capacity)
        texts = []
        with self.keep_loaded():
            for token in range(self.size):
                count = llama_cpp.llama_token_to_piece(self.handle, token, buffer, capacity, 0, True)
                texts.append(ctypes.string_at(buffer, max(count, 0)))
        return texts

    def _texts_and_ends(self) -> tuple[list[bytes], list[bool]]:
        """Return the texts of all tokens, and which of them end a generation."""
        texts = self._texts()
        with self.keep_loaded():
            ends = [llama_cpp.llama_vocab_is_eog(self.handle, token) for token in range(self.size)]
        return texts, ends

    def controls(self, texts: Iterable[str]) -> dict[int, bytes]:
        """Return the control tokens that are written out in ``texts``, with the bytes of their texts.

        These are the tokens whose :meth:`piece` is empty although they have a text.
        """
        found: dict[int, bytes] = {}
        for text in texts:
            if text not in self._controls:
                tokens = set(self.tokenize(text, add_special=False))
                self._controls[text] = {
                    token: piece
                    for token in tokens
                    if not self.piece(token) and (piece := self._piece(token, special=True))
                }
            found |= self._controls[text]
        return found

    def unmarked_ends(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Return those of ``texts`` that are no end-of-generation token."""
        return tuple(text for text in texts if not self._is_end(text))

    def _is_end(self, text: str) -> bool:
        if text not in self._ends:
            tokens = self.tokenize(text, add_special=False)
            self._ends[text] = len(tokens) == 1 and self.ends_generation(tokens[0])
        return self._ends[text]

    def _piece(self, token: int, *, special: bool) -> bytes:
        capacity = 64
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            with self.keep_loaded():
                count = llama_cpp.llama_token_to_piece(self.handle, token, buffer, capacity, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            capacity = -count

    def ends_generation(self, token: int) -> bool:
        """Return whether ``token`` is an end-of-generation token."""
        ends = self._ending.get(token)
        if ends is None:
            with self.keep_loaded():
                ends = self._ending[token] = bool(llama_cpp.llama_vocab_is_eog(self.handle, token))
        return ends
