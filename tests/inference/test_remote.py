"""Models that a backend has itself are found, listed and loaded beside those of the library."""

from typing import Any

from twisted.logger import globalLogPublisher
from zope.interface import implementer

from ollama_tw.engine.backends import Found
from ollama_tw.engine.sources import Sources
from ollama_tw.inference.remote import Remotes
from ollama_tw.interfaces import IBackend, IModelSource, LoadPlan, Probe, RemoteModel
from ollama_tw.library.names import parse_name
from ollama_tw.library.show import model_capabilities, tags_entry


@implementer(IBackend)
class Backend:
    priority = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.loaded: list[str] = []

    def probe(self) -> Probe:
        return Probe()

    def load(self, plan: LoadPlan, progress: Any) -> Any:
        self.loaded.append(plan.model_path)
        return self.name


@implementer(IModelSource)
class Source(Backend):
    def __init__(self, name: str, *models: RemoteModel, error: Exception | None = None) -> None:
        super().__init__(name)
        self._models = models
        self._error = error

    def models(self) -> tuple[RemoteModel, ...]:
        if self._error is not None:
            raise self._error
        return self._models


METADATA = {
    "general.architecture": "far",
    "far.context_length": 4096,
    "tokenizer.chat_template": "<think></think> tool_call {{ messages }}",
}
FAR = RemoteModel("org/Far:big", "http://h:1#x", "http://h:1", METADATA)


def found(backend: Any, reason: str = "") -> Found:
    return Found(backend, Probe(reason=reason))


def test_each_model_is_loaded_by_the_backend_whose_it_is() -> None:
    chosen, source = Backend("cpu"), Source("far", FAR)
    sources = Sources(found(chosen), [found(chosen), found(source)])
    (remote,) = Remotes(sources).all()
    assert sources.load(LoadPlan(str(remote.model.model_path)), lambda done: True) == "far"  # type: ignore[comparison-overlap]
    assert sources.load(LoadPlan("/blobs/sha256-1"), lambda done: True) == "cpu"  # type: ignore[comparison-overlap]
    assert (source.loaded, chosen.loaded) == (["http://h:1#x"], ["/blobs/sha256-1"])


def test_a_model_is_found_whatever_the_case_of_its_name() -> None:
    remotes = Remotes(Sources(found(Backend("cpu")), [found(Source("far", FAR))]))
    assert remotes.find(parse_name("ORG/far:BIG")) is not None
    assert remotes.find(parse_name("org/far")) is None


def test_it_is_listed_with_what_is_known_of_it() -> None:
    (remote,) = Remotes(Sources(found(Backend("cpu")), [found(Source("far", FAR))])).all()
    entry = tags_entry(remote.model, remote.header)
    assert (entry["name"], entry["remote_model"], entry["remote_host"], entry["size"]) == (
        "org/Far:big",
        "org/Far:big",
        "http://h:1",
        0,
    )
    assert (entry["details"]["family"], entry["details"]["context_length"]) == ("far", 4096)
    assert set(model_capabilities(remote.model, remote.header)) == {"completion", "tools", "thinking"}


def test_sources_that_fail_cannot_run_or_have_no_proper_names_harm_nobody() -> None:
    logged: list[Any] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        odd = RemoteModel("no name!", "x", "h")
        backends = [
            found(Source("broken", error=OSError("no route"))),
            found(Source("absent", FAR), reason="it is not configured"),
            found(Source("far", odd, FAR)),
        ]
        names = [one.model.name.short for one in Remotes(Sources(found(Backend("cpu")), backends)).all()]
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert names == ["org/Far:big"]
    assert [event["name"] for event in logged if "log_failure" in event] == ["broken"]
