"""Choice of the backend among available and unavailable ones."""

import pytest

from ollama_tw.engine.backends import DiscoveredBackend, NoBackend, choose
from ollama_tw.interfaces import Device, Probe
from ollama_tw.testing.fake import FakeBackend

DEVICE = Device("D", "a device", "gpu", 1, 2)


def found(name: str, priority: int, reason: str = "") -> DiscoveredBackend:
    backend = FakeBackend(name=name)
    backend.priority = priority
    return DiscoveredBackend(backend, Probe(reason=reason) if reason else Probe((DEVICE,)))


def test_the_first_available_backend_is_chosen() -> None:
    cuda, metal, cpu = found("cuda", 100, "no GPU"), found("metal", 90), found("cpu", 0)
    assert choose([cuda, metal, cpu]) is metal


def test_the_named_backend_is_chosen() -> None:
    metal, cpu = found("metal", 90), found("cpu", 0)
    assert choose([metal, cpu], "cpu") is cpu


def test_an_unknown_name() -> None:
    with pytest.raises(NoBackend) as caught:
        choose([found("cpu", 0)], "tpu")
    assert str(caught.value) == ('OLLAMA_LLM_LIBRARY: no backend "tpu" is installed (installed: cpu)')


def test_the_named_backend_is_unavailable() -> None:
    with pytest.raises(NoBackend) as caught:
        choose([found("cuda", 100, "no GPU"), found("cpu", 0)], "cuda")
    assert str(caught.value) == "no backend is available: cuda: no GPU"


def test_no_backend_is_available() -> None:
    with pytest.raises(NoBackend) as caught:
        choose([found("cuda", 100, "no GPU"), found("cpu", 0, "no luck")])
    assert str(caught.value) == "no backend is available: cuda: no GPU; cpu: no luck"
