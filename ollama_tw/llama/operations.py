"""Device listing, loading and vocabularies: the llama.cpp side of the built-in backends."""

from collections.abc import Sequence

from ollama_tw.interfaces import IRunner, IVocabulary, LoadPlan, Progress
from ollama_tw.llama.discovery import GPU_KINDS, Discovery, FoundDevice, Libraries
from ollama_tw.llama.native import NativeDevice, devices
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.llama.structures import incompatibility
from ollama_tw.llama.vocabulary_file import FileVocabulary


def discover() -> Discovery:
    """Return the devices that llama.cpp lists in this process, with the memory that is free now."""
    if reason := incompatibility():
        return Discovery(reason=reason)
    return Discovery(tuple(FoundDevice(native.library, native.device) for native in devices()))


def _gpus(libraries: Libraries) -> list[NativeDevice]:
    return [
        native
        for native in devices()
        if native.device.kind in GPU_KINDS and (libraries is None or native.library in libraries)
    ]


class LlamaEngine:
    """llama.cpp on the GPUs of ``libraries``, and on the CPU for the layers that they do not hold."""

    def __init__(self, libraries: Sequence[str] | None) -> None:
        self._libraries = None if libraries is None else tuple(libraries)

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        """Load a model."""
        return LlamaRunner(plan, _gpus(self._libraries), progress)

    def read_vocabulary(self, model_path: str) -> IVocabulary:
        """Return the vocabulary of a model file. Raises :class:`LoadError`."""
        return FileVocabulary(model_path)
