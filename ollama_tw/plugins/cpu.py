"""llama.cpp on the processor alone."""

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


@implementer(IPlugin, IBackend, IVocabularyReader)
class CPUBackend:
    name = "cpu"
    priority = 0

    def probe(self) -> Probe:
        from ollama_tw.llama.backend import probe_cpu

        return probe_cpu()

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        from ollama_tw.llama.backend import load

        return load(plan, progress, lambda device: False)

    def read_vocabulary(self, model_path: str) -> IVocabulary:
        from ollama_tw.llama.backend import read_vocabulary

        return read_vocabulary(model_path)


backend = CPUBackend()
