"""What the built-in backends share: they differ in the devices of llama.cpp that they use."""

from collections.abc import Callable

from ollama_tw.interfaces import IRunner, IVocabulary, LoadPlan, Probe, Progress
from ollama_tw.llama.native import NativeDevice, devices
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.llama.vocabulary_file import FileVocabulary

_GPU_KINDS = ("gpu", "igpu")


def _is_gpu(native: NativeDevice) -> bool:
    return native.device.kind in _GPU_KINDS


def probe_cpu() -> Probe:
    """The processor: llama.cpp always has it."""
    return Probe(tuple(native.device for native in devices() if native.device.kind == "cpu"))


def probe_gpus(*libraries: str) -> Probe:
    """The GPUs that llama.cpp lists for one of ``libraries`` (its own names, in lower case), and the
    processor, which takes what they do not hold."""
    every = devices()
    found = tuple(native.device for native in every if native.library in libraries and _is_gpu(native))
    if found:
        return Probe(found + tuple(native.device for native in every if native.device.kind == "cpu"))
    built = sorted({native.library for native in every})
    if any(library in built for library in libraries):
        return Probe(reason=f"llama.cpp finds no {libraries[0]} device on this machine")
    return Probe(
        reason=f"the installed llama-cpp-python was built without {libraries[0]} "
        f"(it has: {', '.join(built)}), or finds no such device"
    )


def load(plan: LoadPlan, progress: Progress, uses: Callable[[NativeDevice], bool]) -> IRunner:
    """Load a model onto the GPUs that ``uses`` accepts, and the CPU for what they do not hold."""
    return LlamaRunner(plan, [native for native in devices() if _is_gpu(native) and uses(native)], progress)


def read_vocabulary(model_path: str) -> IVocabulary:
    """See :class:`~ollama_tw.interfaces.IVocabularyReader`."""
    return FileVocabulary(model_path)
