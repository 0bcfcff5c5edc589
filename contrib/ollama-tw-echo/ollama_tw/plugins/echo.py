"""What the server finds. It is imported at every start, so that it imports nothing heavy itself."""

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import Device, IBackend, IRunner, LoadPlan, Probe, Progress


@implementer(IPlugin, IBackend)
class EchoBackend:
    name = "echo"
    version = "1.0.0"
    priority = -1000  # Below every real one: it runs only where OLLAMA_LLM_LIBRARY=echo asks for it.

    def probe(self) -> Probe:
        return Probe((Device("echo", "no hardware at all", "cpu", 1 << 30, 1 << 30),))

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        from ollama_tw_echo import load

        return load(plan, progress)


backend = EchoBackend()
