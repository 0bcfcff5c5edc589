"""Models that backends have without a file of ours, in the form of those that the library has."""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ollama_tw.engine.backend_router import BackendRouter
from ollama_tw.gguf.reader import Header
from ollama_tw.interfaces import RemoteModel
from ollama_tw.library.manifests import CONFIG, MANIFEST_TYPE, Layer, Manifest, ModelConfig
from ollama_tw.library.model import Model
from ollama_tw.library.names import InvalidName, Name, parse_name

_RECENT = 5.0
"""Seconds for which a source's word is good enough to run a model."""


@dataclass(frozen=True)
class Remote:
    """A model that is no file: ``header`` has what its backend knows of it."""

    model: Model
    header: Header


class BackendModels:
    """The models of all sources. What asks them blocks: call it on a worker thread."""

    def __init__(self, sources: BackendRouter, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self._sources = sources
        self._clock = clock
        self._known: dict[str, Remote] = {}
        self._asked: dict[str, float] = {}
        """When each of the known ones was found last."""

    def all(self, installed: Iterable[Name] = ()) -> list[Remote]:
        """Those that can be used now, but for what has no proper name, or that of a model which the
        library or a source before has too."""
        found: dict[str, Remote] = {}
        hidden = {name.full.lower() for name in installed}
        for key, remote in self._sources.models():
            try:
                name = parse_name(remote.name)
            except InvalidName:
                continue
            if name.full.lower() not in hidden:
                found.setdefault(name.full.lower(), _remote(key, name, remote))
        self._known.update(found)
        self._asked.update(dict.fromkeys(found, self._clock()))
        return list(found.values())

    def known(self, name: Name) -> Remote | None:
        """The one that had this name when the sources were asked last."""
        return self._known.get(name.full.lower())

    def recent(self, name: Name) -> Remote | None:
        """The one of this name as it was a moment ago, so that not every request asks all sources."""
        asked = self._asked.get(name.full.lower())
        if asked is not None and self._clock() - asked < _RECENT:
            return self.known(name)
        return self.find(name)

    def find(self, name: Name) -> Remote | None:
        """The one of this name, whatever its case."""
        wanted = name.full.lower()
        return next((one for one in self.all() if one.model.name.full.lower() == wanted), None)


def _remote(key: str, name: Name, remote: RemoteModel) -> Remote:
    digest = hashlib.sha256(key.encode()).hexdigest()
    family = str(remote.metadata.get("general.architecture", ""))
    model = Model(
        name=name,
        digest=digest,
        size=0,
        modified_ns=0,
        manifest=Manifest(2, MANIFEST_TYPE, Layer(CONFIG, f"sha256:{digest}", 0), ()),
        config=ModelConfig(
            model_format="gguf", model_family=family, remote_host=remote.host, remote_model=remote.name
        ),
        model_path=Path(key),
        model_digest="",
        parent_model="",
        adapter_paths=(),
        projector_paths=(),
        draft_path=None,
        template=None,
        system="",
        params={},
        messages=(),
        licenses=(),
    )
    return Remote(model, Header(Path(key), 3, False, dict(remote.metadata), (), 0, True))
