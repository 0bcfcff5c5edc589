"""Text to tokens and back, with the vocabulary of a loaded model."""

import ctypes
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llama_cpp

from ollama_tw.interfaces import LoadError, RunnerError

# INT32_MIN: more tokens than a number can say.
_TOO_MANY = -(2**31)


class Vocabulary:
    """The vocabulary of a model. Constant, so that every method may be called on any thread.

    Part of the model's memory: after :meth:`close` the methods raise :class:`RunnerError`. Raises
    :class:`LoadError` where texts cannot be tokenized as the vocabulary wants it.
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
        self._begin, self._between, self._end = self._around_pairs()
        # Filled as tokens come up; two threads that fill one entry write the same bytes.
        self._pieces: dict[int, bytes] = {}

    def _check_added(self) -> None:
        """llama.cpp ends the process where a token is missing that goes around every text."""
        kind = llama_cpp.llama_vocab_type(self.handle)
        if kind == llama_cpp.LLAMA_VOCAB_TYPE_RWKV:
            # Adds nothing, whatever the file says.
            return
        pairs = kind == llama_cpp.LLAMA_VOCAB_TYPE_WPM
        adds_eos = llama_cpp.llama_vocab_get_add_eos(self.handle)
        for name, token, added in (
            ("beginning", llama_cpp.llama_vocab_bos(self.handle), self.adds_bos or pairs),
            ("end", llama_cpp.llama_vocab_eos(self.handle), adds_eos and not pairs),
            ("end", llama_cpp.llama_vocab_sep(self.handle), pairs),
        ):
            if added and not 0 <= token < self.size:
                raise LoadError(
                    f"the model's vocabulary has no token for the {name} of a text, which it adds"
                )

    @contextmanager
    def _in_memory(self) -> Iterator[None]:
        """While this lasts the model's memory stays."""
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
        """Wait for the calls under way, and accept no more: the model's memory may then go."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._calls)

    def _special(self, token: int) -> str:
        return self._piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def _around_pairs(self) -> tuple[list[int], list[int], list[int]]:
        """The tokens before, between and after two texts, as llama.cpp's server puts them."""
        separator = llama_cpp.llama_vocab_sep(self.handle)
        end = llama_cpp.llama_vocab_eos(self.handle)
        begins = [llama_cpp.llama_vocab_bos(self.handle)] if self.adds_bos else []
        ends = [end if end >= 0 else separator] if llama_cpp.llama_vocab_get_add_eos(self.handle) else []
        separates = [separator] if llama_cpp.llama_vocab_get_add_sep(self.handle) else []
        # A vocabulary may want a token that it does not name.
        begin, between, after = (
            [token for token in tokens if token >= 0] for tokens in (begins, ends + separates, ends)
        )
        return begin, between, after

    def tokenize_pair(self, first: str, second: str) -> list[int]:
        """The tokens of two texts and of what the model wants around them; special tokens written out
        in the texts are not recognised."""
        first_tokens = self.tokenize(first, add_special=False, parse_special=False)
        second_tokens = self.tokenize(second, add_special=False, parse_special=False)
        return [*self._begin, *first_tokens, *self._between, *second_tokens, *self._end]

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """The tokens of ``text``; special tokens written out in it are recognised, unless
        ``parse_special`` forbids it."""
        data = text.encode("utf-8", "replace")
        # Enough for a token a byte and a few around the text. Only a vocabulary that writes a space
        # as three bytes, and has no token for it, needs more, and says how many.
        room = len(data) + 8
        while True:
            tokens = (llama_cpp.llama_token * room)()
            with self._in_memory():
                count = llama_cpp.llama_tokenize(
                    self.handle, data, len(data), tokens, room, add_special, parse_special
                )
            if count >= 0:
                return tokens[:count]
            if -count <= room or count == _TOO_MANY:
                raise RunnerError("the text could not be split into tokens")
            room = -count

    def check(self, token: int) -> None:
        """Raise :class:`RunnerError` where ``token`` is none of the vocabulary's."""
        if not 0 <= token < self.size:
            raise RunnerError(f"token {token} is not in this model's vocabulary of {self.size} tokens")

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``, special ones written out."""
        for token in tokens:
            self.check(token)
        array = (llama_cpp.llama_token * max(len(tokens), 1))(*tokens)
        room = 16 * len(tokens) + 16
        while True:
            buffer = ctypes.create_string_buffer(room)
            with self._in_memory():
                count = llama_cpp.llama_detokenize(self.handle, array, len(tokens), buffer, room, False, True)
            if count >= 0:
                return buffer.raw[:count].decode("utf-8", "replace")
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes that ``token`` adds to the output; none for control tokens."""
        data = self._pieces.get(token)
        if data is None:
            data = self._pieces[token] = self._piece(token, special=False)
        return data

    def _piece(self, token: int, *, special: bool) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            with self._in_memory():
                count = llama_cpp.llama_token_to_piece(self.handle, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def ends_generation(self, token: int) -> bool:
        """Whether the model says with ``token`` that it has finished."""
        return bool(llama_cpp.llama_vocab_is_eog(self.handle, token))
