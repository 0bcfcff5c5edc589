"""llama.cpp on Apple GPUs."""

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import IBackend, IRunner, LoadPlan, Probe, Progress

_LIBRARIES = (
    "mtl",
    "metal",
)


@implementer(IPlugin, IBackend)
class MetalBackend:
    name = "metal"
    priority = 90

    def probe(self) -> Probe:
        from ollama_tw.llama.backend import probe_gpus

        return probe_gpus(*_LIBRARIES)

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        from ollama_tw.llama.backend import load

        return load(plan, progress, lambda device: device.library in _LIBRARIES)


backend = MetalBackend()
