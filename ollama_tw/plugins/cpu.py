"""llama.cpp on the processor alone."""

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import IBackend, IRunner, LoadPlan, Probe, Progress


@implementer(IPlugin, IBackend)
class CPUBackend:
    name = "cpu"
    priority = 0

    def probe(self) -> Probe:
        from ollama_tw.llama.backend import probe_cpu

        return probe_cpu()

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        from ollama_tw.llama.backend import load

        return load(plan, progress, lambda device: False)


backend = CPUBackend()
