"""Store, uploads and creations for tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.library.create import CreateDependencies, create
from ollama_tw.library.manifests import manifest_path
from ollama_tw.library.names import parse_name
from ollama_tw.library.store import Store
from ollama_tw.wire.models import CreateRequest


class CreationHarness:
    """One store; ``dependencies`` and ``check_cancelled`` are used by its creations."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root / "models", prune=True)
        self.store.open()
        self.dependencies = CreateDependencies()
        self.check_cancelled: Callable[[], None] = lambda: None

    def upload(self, data: bytes | Path) -> str:
        return self.store.blobs.put(data if isinstance(data, bytes) else data.read_bytes())[0]

    def records(self, **fields: Any) -> list[dict[str, Any]]:
        """Create a model and return the records; ``from_`` is passed as ``from``."""
        if "from_" in fields:
            fields["from"] = fields.pop("from_")
        request = msgspec.convert({"model": "m", **fields}, type=CreateRequest)
        return list(
            create(
                self.store,
                request,
                dependencies=self.dependencies,
                check_cancelled=lambda: self.check_cancelled(),
            )
        )

    def statuses(self, **fields: Any) -> list[str]:
        return [record["status"] for record in self.records(**fields)]

    def failure(self, **fields: Any) -> tuple[int, str]:
        """Return status and message of a failing creation; assert that it leaves no files."""
        before = self.files()
        with pytest.raises(OllamaError) as caught:
            self.records(**fields)
        assert self.files() == before
        return caught.value.status, caught.value.message

    def files(self) -> list[str]:
        """Return all files of the store."""
        found = [path for path in self.store.root.rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(self.store.root)) for path in found)

    def blobs(self) -> list[str]:
        return sorted(path.name for path in self.store.blobs.directory.iterdir())

    def layers(self, name: str = "m") -> list[dict[str, Any]]:
        data = manifest_path(self.store.root, parse_name(name)).read_bytes()
        layers: list[dict[str, Any]] = json.loads(data)["layers"]
        return layers

    def kinds(self, name: str = "m") -> list[str]:
        """Return the last components of the layers' media types."""
        return [layer["mediaType"].rpartition(".")[2] for layer in self.layers(name)]

    def config(self, name: str = "m") -> dict[str, Any]:
        manifest = json.loads(manifest_path(self.store.root, parse_name(name)).read_bytes())
        config: dict[str, Any] = json.loads(self.read(manifest["config"]["digest"]))
        return config

    def read(self, digest: str) -> bytes:
        return self.store.blobs.path(digest).read_bytes()
