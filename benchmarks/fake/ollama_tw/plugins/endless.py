"""A model that answers as fast as Python can, so that what is measured is all the rest of the server.

Found where the folder above is on PYTHONPATH; used where OLLAMA_LLM_LIBRARY=endless says so.
"""

from ollama_tw.interfaces import Device, Probe
from ollama_tw.testing.fake import FakeBackend

_ENOUGH = 1 << 40


class Endless(FakeBackend):
    def probe(self) -> Probe:
        return Probe((Device("ENDLESS", "no device at all", "cpu", _ENOUGH, _ENOUGH),))


backend = Endless(name="endless")
