"""Models that a backend lists itself: name lookup, listing and loading."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from zope.interface import implementer

from ollama_tw.engine.backend_router import BackendRouter
from ollama_tw.engine.backend_selection import BackendSelection
from ollama_tw.engine.backends import DiscoveredBackend
from ollama_tw.interfaces import IBackend, IModelSource, LoadError, LoadPlan, Probe, RemoteModel
from ollama_tw.library.backend_models import BackendModels
from ollama_tw.library.names import parse_name
from ollama_tw.library.show import model_capabilities, tags_entry
from ollama_tw.testing.fake import FakeRunner
from tests.helpers import PATIENCE
from tests.helpers.logs import captured, texts


@implementer(IBackend)
class Backend:
    priority = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.loaded: list[str] = []
        self.runner: Any = FakeRunner(LoadPlan(name))

    def probe(self) -> Probe:
        return Probe()

    def load(self, plan: LoadPlan, progress: Any) -> Any:
        self.loaded.append(plan.model_path)
        return self.runner


@implementer(IModelSource)
class ListingBackend(Backend):
    """Backend that lists ``models``, or returns or raises ``answer``, after waiting for ``gate``."""

    def __init__(
        self, name: str, *models: RemoteModel, answer: Any = (), gate: threading.Event | None = None
    ) -> None:
        super().__init__(name)
        self.answer: Any = models or answer
        self.asked = 0
        self._gate = gate
        self.asked_on = threading.current_thread()
        self.began = threading.Event()

    def models(self) -> Any:
        self.asked += 1
        self.asked_on = threading.current_thread()
        self.began.set()
        if self._gate is not None:
            self._gate.wait(PATIENCE)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


METADATA: dict[str, str | int] = {
    "general.architecture": "far",
    "far.context_length": 4096,
    "tokenizer.chat_template": "<think></think>{{ tools }}{{ messages }}",
}
FAR = RemoteModel("org/Far:big", "http://h:1#x", "http://h:1", METADATA)


def found(backend: Any, reason: str = "") -> DiscoveredBackend:
    return DiscoveredBackend(backend, Probe(reason=reason), f"/x/{backend.name}.py")


def router(chosen: DiscoveredBackend, *others: DiscoveredBackend) -> BackendRouter:
    """Return the router of these backends, which have much time to list their models."""
    return BackendRouter(BackendSelection(lambda: [chosen, *others], chosen.name), PATIENCE)


def test_models_are_loaded_by_the_backend_that_lists_them() -> None:
    chosen, source = Backend("cpu"), ListingBackend("far", FAR)
    sources = router(found(chosen), found(source))
    (remote,) = BackendModels(sources).all()
    assert sources.load(LoadPlan(str(remote.model.model_path)), lambda done: True) is source.runner
    assert sources.load(LoadPlan("/blobs/sha256-1"), lambda done: True) is chosen.runner
    assert (source.loaded, chosen.loaded) == (["http://h:1#x"], ["/blobs/sha256-1"])


def test_names_are_compared_without_case() -> None:
    remotes = BackendModels(router(found(Backend("cpu")), found(ListingBackend("far", FAR))))
    assert remotes.find(parse_name("ORG/far:BIG")) is not None
    assert remotes.find(parse_name("org/far")) is None


def test_entry_and_capabilities() -> None:
    (remote,) = BackendModels(router(found(Backend("cpu")), found(ListingBackend("far", FAR)))).all()
    entry = tags_entry(remote.model, remote.header, ["completion"])
    assert (entry["name"], entry["remote_model"], entry["remote_host"], entry["size"]) == (
        "org/Far:big",
        "org/Far:big",
        "http://h:1",
        0,
    )
    assert (entry["details"]["family"], entry["details"]["context_length"]) == ("far", 4096)
    assert set(model_capabilities(remote.model, remote.header)) == {"completion", "tools", "thinking"}


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """Capture the log events of the router."""
    with captured("ollama_tw.engine.backend_router") as events:
        yield events


def names(remotes: BackendModels) -> list[str]:
    return [one.model.name.short for one in remotes.all()]


def test_unavailable_backends_and_invalid_names_are_skipped() -> None:
    odd = RemoteModel("no name!", "x", "h")
    backends = [
        found(ListingBackend("absent", FAR), reason="it is not configured"),
        found(ListingBackend("far", odd, FAR)),
    ]
    assert names(BackendModels(router(found(Backend("cpu")), *backends))) == ["org/Far:big"]


def test_duplicate_names_are_listed_once() -> None:
    again = RemoteModel("org/far:big", "http://h:2#x", "http://h:2")
    sources = router(
        found(Backend("cpu")), found(ListingBackend("one", FAR, FAR)), found(ListingBackend("two", again))
    )
    (remote,) = BackendModels(sources).all()
    assert remote.model.config.remote_host == "http://h:1"
    assert BackendModels(sources).all([parse_name("ORG/far:big")]) == []


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (OSError("no route"), "OSError: no route"),
        (SystemExit(3), "SystemExit: 3"),
        (["a model"], "models() returned a str instead of a RemoteModel"),
        (None, "TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_a_failing_backend_is_logged_once_with_its_name_and_file(
    logged: list[LogEvent], wrong: Any, reason: str
) -> None:
    broken = ListingBackend("broken", answer=wrong)
    remotes = BackendModels(router(found(Backend("cpu")), found(broken), found(ListingBackend("far", FAR))))
    line = f"backend broken (/x/broken.py) failed to list its models: {reason}"
    for _ in range(3):
        assert names(remotes) == ["org/Far:big"]
    assert texts(logged) == [line]
    broken.answer = []
    assert names(remotes) == ["org/Far:big"]
    broken.answer = wrong
    assert names(remotes) == ["org/Far:big"]
    assert texts(logged) == [line, line]


@pytest.mark.slow
def test_a_hanging_backend_is_not_called_again_until_it_returns(logged: list[LogEvent]) -> None:
    gate = threading.Event()
    slow = ListingBackend("slow", RemoteModel("late", "x", "h"), gate=gate)
    sources = router(found(Backend("cpu")), found(slow), found(ListingBackend("far", FAR)))
    (listing,) = (one for one in sources._model_listings() if one.backend.backend is slow)
    listing._timeout = 2
    remotes = BackendModels(sources)
    for _ in range(3):
        assert names(remotes) == ["org/Far:big"]
    assert slow.began.wait(PATIENCE)
    assert slow.asked == 1
    assert texts(logged) == [
        "backend slow (/x/slow.py) failed to list its models: no result within 2 seconds"
    ]
    gate.set()
    slow.asked_on.join(PATIENCE)
    listing._timeout = PATIENCE
    assert names(remotes) == ["late:latest", "org/Far:big"]


def test_recent_listings_are_reused() -> None:
    clock = Clock()
    source = ListingBackend("far", FAR)
    remotes = BackendModels(router(found(Backend("cpu")), found(source)), clock.seconds)
    name = parse_name("org/far:big")
    assert remotes.recent(name) is not None
    clock.advance(4.9)
    source.answer = []
    assert remotes.recent(name) is not None
    assert source.asked == 1
    clock.advance(0.2)
    assert remotes.recent(name) is None
    assert remotes.recent(parse_name("other")) is None
    assert source.asked == 3


class Broken(Backend):
    def load(self, plan: LoadPlan, progress: Any) -> Any:
        raise OSError("secret")


@pytest.mark.parametrize("backend", [Broken("odd"), Backend("odd")], ids=["raises", "gives nothing"])
def test_a_load_that_breaks_the_contract_names_the_backend(logged: list[LogEvent], backend: Backend) -> None:
    backend.runner = None
    with pytest.raises(LoadError) as caught:
        router(found(backend)).load(LoadPlan("m"), lambda done: True)
    assert str(caught.value) == "backend odd failed to load the model; see the server's log"
    assert texts(logged) == ["backend odd (/x/odd.py) failed to load a model"]
