"""Plugin of the echo backend. Imported at every start of the server: heavy imports are in methods."""

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import Device, IBackend, IRunner, LoadPlan, Probe, Progress


@implementer(IPlugin, IBackend)
class EchoBackend:
    """A backend without a model."""

    name = "echo"
    version = "1.0.0"
    priority = -1000  # Below every real one: it is used only with OLLAMA_LLM_LIBRARY=echo.

    def probe(self) -> Probe:
        """Return one device with 1 GiB."""
        return Probe((Device("echo", "not a device", "cpu", 1 << 30, 1 << 30),))

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        """Load the echo model."""
        from ollama_tw_echo import load

        return load(plan, progress)


backend = EchoBackend()
