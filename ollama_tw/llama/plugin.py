"""The backends that llama.cpp gives: they differ in the devices that they use.

Imported at every start: llama.cpp itself is imported only when one of them is asked for something.
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


@implementer(IPlugin, IBackend, IVocabularyReader)
class LlamaBackend:
    """llama.cpp on the GPUs that it lists for one of ``libraries`` (its own names in lower case; None for any
    of them, empty for no GPU), and on the processor for what they do not hold."""

    def __init__(self, name: str, priority: int, libraries: tuple[str, ...] | None) -> None:
        self.name = name
        self.priority = priority
        self._libraries = libraries

    def probe(self) -> Probe:
        from ollama_tw.llama.backend import probe

        return probe(self.name, self._libraries)

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        from ollama_tw.llama.backend import load

        return load(plan, progress, self._libraries)

    def read_vocabulary(self, model_path: str) -> IVocabulary:
        from ollama_tw.llama.backend import read_vocabulary

        return read_vocabulary(model_path)
