"""Plugins are found, good and broken ones, and one is chosen."""

from typing import Any

import pytest
from twisted.plugin import IPlugin
from zope.interface import implementer

import ollama_tw.engine.backends as backends
from ollama_tw.engine.backends import Found, NoBackend, choose, discover
from ollama_tw.interfaces import Device, IBackend, Probe
from ollama_tw.testing.fake import FakeBackend

DEVICE = Device("D", "a device", "gpu", 1, 2)


def found(name: str, priority: int, reason: str = "") -> Found:
    backend = FakeBackend(name=name)
    backend.priority = priority
    return Found(backend, Probe(reason=reason) if reason else Probe((DEVICE,)))


def test_the_best_that_is_available_is_chosen() -> None:
    cuda, metal, cpu = found("cuda", 100, "no GPU"), found("metal", 90), found("cpu", 0)
    assert choose([cuda, metal, cpu]) is metal


def test_the_one_that_is_named_is_chosen() -> None:
    metal, cpu = found("metal", 90), found("cpu", 0)
    assert choose([metal, cpu], "cpu") is cpu


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(NoBackend) as caught:
        choose([found("cpu", 0)], "tpu")
    assert str(caught.value) == 'OLLAMA_LLM_LIBRARY names "tpu", and no installed backend has that name'


def test_the_one_that_is_named_cannot_run_here() -> None:
    with pytest.raises(NoBackend) as caught:
        choose([found("cuda", 100, "no GPU"), found("cpu", 0)], "cuda")
    assert str(caught.value) == "no backend can run models here: cuda: no GPU"


def test_none_can_run_here() -> None:
    with pytest.raises(NoBackend) as caught:
        choose([found("cuda", 100, "no GPU"), found("cpu", 0, "no luck")])
    assert str(caught.value) == "no backend can run models here: cuda: no GPU; cpu: no luck"


def test_the_built_in_ones_are_found_best_first() -> None:
    names = [one.name for one in discover()]
    assert [name for name in names if name in ("cuda", "metal", "cpu")] == ["cuda", "metal", "cpu"]


@implementer(IPlugin, IBackend)
class WithoutAnything:
    pass


@implementer(IPlugin, IBackend)
class Broken:
    name = "broken"
    priority: Any = 1000

    def __init__(self, probe: Any) -> None:
        self._probe = probe

    def probe(self) -> Any:
        if isinstance(self._probe, Exception):
            raise self._probe
        return self._probe

    def load(self, plan: Any, progress: Any) -> Any:
        raise AssertionError


@pytest.mark.parametrize(
    ("plugin", "name", "reason"),
    [
        (WithoutAnything(), "WithoutAnything", "it does not provide IBackend: "),
        (Broken(OSError("no driver")), "broken", "its probe failed: OSError: no driver"),
        (Broken(None), "broken", "its probe gave no Probe but NoneType"),
    ],
)
def test_a_broken_plugin_says_why_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, plugin: Any, name: str, reason: str
) -> None:
    monkeypatch.setattr(backends, "getPlugins", lambda interface, package: [FakeBackend(), plugin])
    all_found = discover()
    by_name = {one.name: one for one in all_found}
    assert by_name[name].probe.reason.startswith(reason)
    assert not by_name[name].probe.available
    assert choose(all_found).name == "fake"


def test_a_priority_that_is_no_number_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Broken(Probe((DEVICE,)))
    plugin.priority = "high"
    monkeypatch.setattr(backends, "getPlugins", lambda interface, package: [FakeBackend(), plugin])
    assert [one.name for one in discover()] == ["broken", "fake"]


def test_a_plugin_module_that_cannot_be_imported_harms_nobody(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ollama_tw import plugins

    (tmp_path / "no_such_driver.py").write_text("import a_module_that_is_not_installed\n")
    monkeypatch.setattr(plugins, "__path__", [*plugins.__path__, str(tmp_path)])
    assert "cpu" in [one.name for one in discover()]
