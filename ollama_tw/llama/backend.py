"""Functions of the built-in backends, which differ in the llama.cpp devices that they use."""

from ollama_tw.interfaces import IRunner, IVocabulary, LoadPlan, Probe, Progress
from ollama_tw.llama.native import NativeDevice, devices
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.llama.structures import incompatibility
from ollama_tw.llama.vocabulary_file import FileVocabulary

_GPU_KINDS = ("gpu", "igpu")

Libraries = tuple[str, ...] | None
"""Names of the ggml backends whose GPUs are used, in lower case; None for all."""


def _gpus(every: list[NativeDevice], libraries: Libraries) -> list[NativeDevice]:
    return [
        native
        for native in every
        if native.device.kind in _GPU_KINDS and (libraries is None or native.library in libraries)
    ]


def probe(name: str, libraries: Libraries) -> Probe:
    """Return the GPUs of ``libraries`` and the CPU, which computes the layers that GPUs do not hold.

    The backend ``name`` is unavailable if it uses GPUs and there are none, or if the installed
    llama-cpp-python is not supported.
    """
    if reason := incompatibility():
        return Probe(reason=reason)
    every = devices()
    gpus = _gpus(every, libraries)
    if gpus or libraries == ():
        processors = [native for native in every if native.device.kind == "cpu"]
        return Probe(tuple(native.device for native in gpus + processors))
    built = sorted({native.library for native in every})
    return Probe(
        reason=f"the installed llama-cpp-python was built without {name} (it has: {', '.join(built)}), "
        "or found no such device"
    )


def load(plan: LoadPlan, progress: Progress, libraries: Libraries) -> IRunner:
    """Load a model on the GPUs of ``libraries``, and on the CPU for the layers that they do not hold."""
    return LlamaRunner(plan, _gpus(devices(), libraries), progress)


def read_vocabulary(model_path: str) -> IVocabulary:
    """Return the vocabulary of a model file. Raises :class:`LoadError`."""
    return FileVocabulary(model_path)
