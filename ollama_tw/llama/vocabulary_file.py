"""Vocabulary of a model file, without its weights."""

import ctypes
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
from zope.interface import implementer

from ollama_tw.interfaces import IVocabulary, LoadError
from ollama_tw.llama.model import load_failure
from ollama_tw.llama.native import initialise, load_report
from ollama_tw.llama.structures import set_fields
from ollama_tw.llama.vocabulary import LlamaVocabulary


@implementer(IVocabulary)
class FileVocabulary:
    """The vocabulary in a GGUF file, freed with the object. Raises :class:`LoadError`."""

    def __init__(self, model_path: str) -> None:
        initialise()
        no_devices = (ctypes.c_void_p * 1)(None)
        params = set_fields(
            llama_cpp.llama_model_default_params(),
            vocab_only=True,
            devices=ctypes.cast(no_devices, ctypes.c_void_p),
        )
        with load_report() as report:
            handle = llama_cpp.llama_model_load_from_file(os.fsencode(model_path), params)
            if not handle:
                raise LoadError(load_failure(report, Path(model_path)))
        weakref.finalize(self, llama_cpp.llama_model_free, handle)
        self._vocabulary = LlamaVocabulary(handle)
        self.bos_text = self._vocabulary.bos_text
        self.eos_text = self._vocabulary.eos_text
        self.adds_bos = self._vocabulary.adds_bos

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the tokens of ``text``."""
        return self._vocabulary.tokenize(text, add_special=add_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``."""
        return self._vocabulary.detokenize(tokens)
