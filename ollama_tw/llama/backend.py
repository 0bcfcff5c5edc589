"""Backends of llama.cpp, which differ in the devices that they use.

Imported at every start of the server; llama.cpp itself is imported by the methods.
"""

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import (
    ChildEngine,
    IBackend,
    IRunner,
    IVocabulary,
    IVocabularyReader,
    LoadPlan,
    Probe,
    Progress,
)
from ollama_tw.llama import discovery


@implementer(IPlugin, IBackend, IVocabularyReader)
class LlamaBackend:
    """llama.cpp on the GPUs of ``libraries``, and on the CPU for the layers that they do not hold.

    ``libraries`` are names of ggml backends in lower case; None for all, empty for no GPU.
    """

    def __init__(self, name: str, priority: int, libraries: discovery.Libraries) -> None:
        self.name = name
        self.priority = priority
        self._libraries = libraries
        self.child_engine = ChildEngine("ollama_tw.llama.operations", "LlamaEngine", (libraries,))

    def probe(self) -> Probe:
        """Return the devices, or why the backend is unavailable.

        Child processes list them if one was started at first, otherwise llama.cpp in this process.
        """
        enumeration = discovery.under_way()
        if enumeration is not None:
            return enumeration.result().probe(self.name, self._libraries)
        from ollama_tw.llama.operations import discover

        return discover().probe(self.name, self._libraries)

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        """Load a model in this process."""
        from ollama_tw.llama.operations import LlamaEngine

        return LlamaEngine(self._libraries).load(plan, progress)

    def read_vocabulary(self, model_path: str) -> IVocabulary:
        """Return the vocabulary of a model file, read by this process."""
        from ollama_tw.llama.operations import LlamaEngine

        return LlamaEngine(self._libraries).read_vocabulary(model_path)
