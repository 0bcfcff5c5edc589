"""Grammar engines that :mod:`benchmarks.grammar` compares, each behind the same two classes."""

import contextlib
import ctypes
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import llama_cpp
import numpy as np
import numpy.typing as npt

from ollama_tw.errors import OllamaError
from ollama_tw.grammar import schema_to_gbnf
from ollama_tw.grammar.forced import ForcedText
from ollama_tw.grammar.reader import read_grammar
from ollama_tw.interfaces import InvalidGrammar
from ollama_tw.llama.grammar import Grammar
from ollama_tw.llama.structures import set_fields
from ollama_tw.llama.vocabulary import LlamaVocabulary

Mask = npt.NDArray[np.bool_]


class Refused(Exception):
    """A schema or a state that an engine cannot process."""


class Vocabulary:
    """Texts of the tokens of a model file; ``end`` is the token that ends a text."""

    def __init__(self, path: str) -> None:
        llama_cpp.llama_backend_init()
        params = set_fields(llama_cpp.llama_model_default_params(), vocab_only=True)
        with _quiet():
            model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        if not model:
            raise SystemExit(f"{path} has no vocabulary")
        self.llama = LlamaVocabulary(model)
        self.pieces = [self.llama.piece(token) for token in range(self.llama.size)]
        self.end = int(llama_cpp.llama_vocab_eos(self.llama.handle))


class Matcher(Protocol):
    """State of a grammar within a text."""

    def mask(self) -> Mask:
        """Return which tokens may come next. Raises :class:`Refused`."""

    def accept(self, token: int) -> bool:
        """Append ``token`` and return True if it is allowed; else return False."""


class Engine(Protocol):
    """A grammar engine with the vocabulary of a model."""

    def compile(self, schema: Mapping[str, Any]) -> Callable[[], Matcher]:
        """Return what begins a text of ``schema``. Raises :class:`Refused`."""

    notes: list[str]
    """Constraints of the schema compiled last that the engine reports as not enforced."""


class Own:
    """llama.cpp's grammars with this project's converter, as the server uses them."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        vocabulary.llama.prefixes().result()
        self.notes: list[str] = []

    def compile(self, schema: Mapping[str, Any]) -> Callable[[], Matcher]:
        self.notes = []
        try:
            text = schema_to_gbnf(schema, note=self.notes.append)
        except OllamaError as error:
            raise Refused(str(error)) from None
        # The server reads each grammar again, for the text that it forces.
        ForcedText(read_grammar(text))
        return lambda: _LlamaMatcher(self._vocabulary.llama, text)


class _LlamaMatcher:
    def __init__(self, vocabulary: LlamaVocabulary, text: str) -> None:
        self._size = vocabulary.size
        try:
            self._grammar = Grammar(vocabulary, text)
        except InvalidGrammar as error:
            raise Refused(str(error)) from None

    def mask(self) -> Mask:
        mask: Mask = np.zeros(self._size, dtype=np.bool_)
        mask[self._grammar.allowed()] = True
        return mask

    def accept(self, token: int) -> bool:
        if not self._grammar.allows(token):
            return False
        self._grammar.accept(token)
        return True

    def __del__(self) -> None:
        if hasattr(self, "_grammar"):
            self._grammar.close()


class Guidance:
    """The package ``llguidance`` with its slices for JSON, which refuses what it cannot enforce."""

    options: Mapping[str, bool] = {}

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._library: Any = importlib.import_module("llguidance")
        self._tokenizer = self._library.LLTokenizer(
            self._library.TokenizerWrapper(_GuidanceVocabulary(vocabulary)),
            slices=self._library.LLTokenizer.json_slices(),
        )
        self._size = vocabulary.llama.size
        self.notes: list[str] = []

    def compile(self, schema: Mapping[str, Any]) -> Callable[[], Matcher]:
        grammar = self._library.LLMatcher.grammar_from_json_schema(json.dumps(schema), dict(self.options))
        first = self._library.LLMatcher(self._tokenizer, grammar, log_level=0)
        if first.is_error():
            raise Refused(first.get_error().partition("\n")[0])
        self.notes = first.get_grammar_warnings()
        return lambda: _GuidanceMatcher(first.deep_copy(), self._size)


class LenientGuidance(Guidance):
    """The same with the options that leave free what it cannot enforce."""

    options: Mapping[str, bool] = {"lenient": True, "coerce_one_of": True}


class _GuidanceVocabulary:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = vocabulary.end
        self.bos_token_id = None
        # The library takes tokens that begin with this byte for control tokens.
        self.tokens = [piece or b"\xff[%d]" % token for token, piece in enumerate(vocabulary.pieces)]
        self.special_token_ids = [token for token, piece in enumerate(vocabulary.pieces) if not piece]
        self._vocabulary = vocabulary.llama

    def __call__(self, text: bytes) -> list[int]:
        return self._vocabulary.tokenize(text.decode("utf-8", "replace"), add_special=False)


class _GuidanceMatcher:
    def __init__(self, matcher: Any, size: int) -> None:
        self._matcher = matcher
        self._size = size
        self._bits = np.zeros((size + 31) // 32, dtype=np.int32)

    def mask(self) -> Mask:
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            raise Refused(self._matcher.get_error().partition("\n")[0])
        return _unpacked(self._bits, self._size)

    def accept(self, token: int) -> bool:
        return bool(self._matcher.try_consume_tokens([token]))


class XGrammar:
    """The package ``xgrammar`` with its defaults, on one thread and without its cache."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._library: Any = importlib.import_module("xgrammar")
        self._size = vocabulary.llama.size
        info = self._library.TokenizerInfo(vocabulary.pieces, stop_token_ids=[vocabulary.end])
        self._compiler = self._library.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.notes: list[str] = []

    def compile(self, schema: Mapping[str, Any]) -> Callable[[], Matcher]:
        try:
            compiled = self._compiler.compile_json_schema(json.dumps(schema))
        except (RuntimeError, ValueError) as error:
            raise Refused(str(error).rpartition("\n")[2] or str(error)) from None
        return lambda: _XMatcher(self._library.GrammarMatcher(compiled), self._size)


class _XMatcher:
    def __init__(self, matcher: Any, size: int) -> None:
        self._matcher = matcher
        self._size = size
        self._bits = np.zeros((1, (size + 31) // 32), dtype=np.int32)

    def mask(self) -> Mask:
        if not self._matcher.fill_next_token_bitmask(self._bits):
            return np.ones(self._size, dtype=np.bool_)
        return _unpacked(self._bits[0], self._size)

    def accept(self, token: int) -> bool:
        return bool(self._matcher.accept_token(token))


def _unpacked(bits: npt.NDArray[np.int32], size: int) -> Mask:
    return np.unpackbits(bits.view(np.uint8), count=size, bitorder="little").astype(np.bool_)


ENGINES: Mapping[str, tuple[str, Callable[[Vocabulary], Engine]]] = {
    "llama.cpp": ("llama_cpp", Own),
    "llguidance": ("llguidance", Guidance),
    "llguidance-lenient": ("llguidance", LenientGuidance),
    "xgrammar": ("xgrammar", XGrammar),
}
"""Module and class of each engine, by its name."""


def installed(name: str) -> bool:
    """Return whether the library of the engine ``name`` is installed."""
    return importlib.util.find_spec(ENGINES[name][0]) is not None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep llama.cpp from writing its log."""
    ignore = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(ignore, ctypes.c_void_p(0))
    yield
    _KEPT.append(ignore)


# llama.cpp keeps the pointer.
_KEPT: list[object] = []
