"""Backends of llama.cpp, which differ in the devices that they use.

Imported at every start of the server; llama.cpp itself is imported by the methods.
"""

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
        self._probed = False

    def probe(self) -> Probe:
        """Return the devices, or why the backend is unavailable.

        The first probe takes the result of the child process, if one was started; later ones need the
        memory that is free at their time.
        """
        enumeration = discovery.under_way()
        if enumeration is not None and not self._probed:
            self._probed = True
            return enumeration.result().probe(self.name, self._libraries)
        from ollama_tw.llama.operations import discover

        return discover().probe(self.name, self._libraries)

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        """Load a model."""
        from ollama_tw.llama.operations import load

        return load(plan, progress, self._libraries)

    def read_vocabulary(self, model_path: str) -> IVocabulary:
        """Return the vocabulary of a model file."""
        from ollama_tw.llama.operations import read_vocabulary

        return read_vocabulary(model_path)
