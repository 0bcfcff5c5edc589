"""llama.cpp on NVIDIA GPUs."""

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import (
    IBackend,
    IRunner,
    IVocabulary,
    IVocabularyReader,
    LoadPlan,
    Probe,
    Progress,
)

_LIBRARIES = ("cuda",)


@implementer(IPlugin, IBackend, IVocabularyReader)
class CUDABackend:
    name = "cuda"
    priority = 100

    def probe(self) -> Probe:
        from ollama_tw.llama.backend import probe_gpus

        return probe_gpus(*_LIBRARIES)

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        from ollama_tw.llama.backend import load

        return load(plan, progress, lambda device: device.library in _LIBRARIES)

    def read_vocabulary(self, model_path: str) -> IVocabulary:
        from ollama_tw.llama.backend import read_vocabulary

        return read_vocabulary(model_path)


backend = CUDABackend()
