"""Selection of the backend on a thread: what waits for it, and what does not."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from zope.interface import implementer

from ollama_tw.engine.backend_selection import BackendSelection
from ollama_tw.engine.backends import NOT_PROBED, DiscoveredBackend
from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import (
    Device,
    IBackend,
    IModelSource,
    IRunner,
    LoadPlan,
    Probe,
    Progress,
    RemoteModel,
)
from ollama_tw.testing.fake import FakeBackend
from tests.helpers import PATIENCE
from tests.helpers.logs import captured, texts


@implementer(IBackend)
class SlowBackend:
    """A backend whose probe waits for ``gate``."""

    priority = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.gate = Event()

    def probe(self) -> Probe:
        assert self.gate.wait(PATIENCE)
        return Probe((Device("D", "a device", "gpu", 1, 2),))

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        raise NotImplementedError


@implementer(IModelSource)
class SlowSource(SlowBackend):
    def models(self) -> Sequence[RemoteModel]:
        return []


def not_probed(backend: IBackend) -> DiscoveredBackend:
    return DiscoveredBackend(backend, NOT_PROBED)


def test_without_sources_of_models_there_is_nothing_to_wait_for() -> None:
    slow = SlowBackend("slow")
    selection = BackendSelection(lambda: [not_probed(slow)])
    assert selection.model_sources() == []
    assert (selection.ready, selection.failure) == (False, None)
    slow.gate.set()
    assert selection.chosen().name == "slow"
    assert (selection.ready, selection.failure) == (True, None)


def test_sources_of_models_are_waited_for() -> None:
    source = SlowSource("source")
    selection = BackendSelection(lambda: [not_probed(source)])
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(selection.model_sources)
        assert not asked.done()
        source.gate.set()
        assert [one.name for one in asked.result(PATIENCE)] == ["source"]


def test_no_backend_is_available() -> None:
    selection = BackendSelection(lambda: [DiscoveredBackend(FakeBackend(), Probe(reason="no luck"))], "fake")
    with pytest.raises(OllamaError, match="no backend is available: fake: no luck") as caught:
        selection.chosen()
    assert caught.value.status == 500
    assert selection.failure is caught.value
    assert not selection.ready


def test_cancelling_fails_what_waits() -> None:
    slow = SlowBackend("slow")
    selection = BackendSelection(lambda: [not_probed(slow)])
    with ThreadPoolExecutor() as pool:
        calls: list[Callable[[], object]] = [selection.chosen, selection.all]
        waiting = [pool.submit(call) for call in calls]
        selection.cancel()
        for one in waiting:
            with pytest.raises(OllamaError, match="shutting down") as caught:
                one.result(PATIENCE)
            assert caught.value.status == 503
    slow.gate.set()


def test_an_error_of_the_search_fails_what_waits() -> None:
    def installed() -> list[DiscoveredBackend]:
        raise OSError("secret")

    with captured("ollama_tw.engine.backend_selection") as events:
        selection = BackendSelection(installed)
        for call in (selection.chosen, selection.model_sources):
            with pytest.raises(OllamaError, match="could not be probed; see the server's log"):
                call()
    assert texts(events) == ["the backends could not be probed"]
