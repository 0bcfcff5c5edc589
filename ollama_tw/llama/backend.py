"""What the built-in backends share: they differ in the devices of llama.cpp that they use."""

from ollama_tw.interfaces import IRunner, IVocabulary, LoadPlan, Probe, Progress
from ollama_tw.llama.native import NativeDevice, devices
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.llama.structures import incompatibility
from ollama_tw.llama.vocabulary_file import FileVocabulary

_GPU_KINDS = ("gpu", "igpu")

Libraries = tuple[str, ...] | None
"""Those whose GPUs are used: ggml's names in lower case, None for all."""


def _gpus(every: list[NativeDevice], libraries: Libraries) -> list[NativeDevice]:
    return [
        native
        for native in every
        if native.device.kind in _GPU_KINDS and (libraries is None or native.library in libraries)
    ]


def probe(name: str, libraries: Libraries) -> Probe:
    """The GPUs of ``libraries`` and the processor, which takes what they do not hold; a backend ``name`` that
    wants GPUs cannot run where there are none."""
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
        "or finds no such device"
    )


def load(plan: LoadPlan, progress: Progress, libraries: Libraries) -> IRunner:
    """Load a model onto the GPUs of ``libraries``, and the processor for what they do not hold."""
    return LlamaRunner(plan, _gpus(devices(), libraries), progress)


def read_vocabulary(model_path: str) -> IVocabulary:
    """See :class:`~ollama_tw.interfaces.IVocabularyReader`."""
    return FileVocabulary(model_path)
