"""Models that a backend lists itself, as the library's ``Model`` and ``Header``.

Such a model has no file in the store (``ollama_tw.interfaces.IModelSource``, docs/backends.md).
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ollama_tw.gguf.reader import Header
from ollama_tw.interfaces import RemoteModel
from ollama_tw.library.manifests import CONFIG, MANIFEST_TYPE, Layer, Manifest, ModelConfig
from ollama_tw.library.model import Model
from ollama_tw.library.names import InvalidName, Name, parse_name

_MAX_AGE = 5.0
"""Seconds for which a listing is valid for running a model."""


class Lister(Protocol):
    """Listing of the models of all backends."""

    def models(self) -> Sequence[tuple[str, RemoteModel]]:
        """Return each model with the ``model_path`` of its load plan. Blocking."""


@dataclass(frozen=True)
class BackendModel:
    """Model without a file; ``header`` has the metadata from its backend."""

    model: Model
    header: Header


class BackendModels:
    """Models of all backends that list their own. Blocking; called on worker threads."""

    def __init__(self, lister: Lister, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns seconds."""
        self._lister = lister
        self._clock = clock
        self._known: dict[str, tuple[BackendModel, float]] = {}
        """Models by full name in lower case, with the time of the listing that had them last."""

    def all(self, installed: Iterable[Name] = ()) -> list[BackendModel]:
        """List the models that can be loaded now.

        Left out are models with an invalid name, and those whose name an ``installed`` model or an
        earlier one of the list has, in any case.
        """
        found: dict[str, BackendModel] = {}
        hidden = {name.full.lower() for name in installed}
        for path, remote in self._lister.models():
            try:
                name = parse_name(remote.name)
            except InvalidName:
                continue
            if name.full.lower() not in hidden:
                found.setdefault(name.full.lower(), _backend_model(path, name, remote))
        now = self._clock()
        self._known.update({name: (one, now) for name, one in found.items()})
        return list(found.values())

    def recent(self, name: Name) -> BackendModel | None:
        """Return the model of this name from a listing of the last five seconds, else from a new one."""
        model, listed_at = self._known.get(name.full.lower(), (None, 0.0))
        if model is not None and self._clock() - listed_at < _MAX_AGE:
            return model
        return self.find(name)

    def find(self, name: Name) -> BackendModel | None:
        """Return the model of this name, compared without case, from a new listing."""
        full = name.full.lower()
        return next((one for one in self.all() if one.model.name.full.lower() == full), None)


def _backend_model(path: str, name: Name, remote: RemoteModel) -> BackendModel:
    digest = hashlib.sha256(path.encode()).hexdigest()
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
        model_path=Path(path),
        model_digest="",
        parent_model="",
        adapter_paths=(),
        projector_paths=(),
        draft_path=None,
        template=remote.template or None,
        system=remote.system,
        params=remote.parameters,
        messages=tuple(remote.messages),
        licenses=(),
    )
    return BackendModel(model, Header(Path(path), 3, False, dict(remote.metadata), (), 0, True))
