"""``ollama prune`` on models directories with files of various ages."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from ollama_tw.library.manifests import CONFIG, MODEL, Layer, Manifest, encode_manifest
from tests.cli.conftest import Ollama, Result, runner

DAYS = 86400.0


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a models directory with the model ``m``, whose two blobs are old."""
    root = tmp_path / ".ollama/models"
    (root / "blobs").mkdir(parents=True)
    layers = [
        Layer(kind, f"sha256:{blob(root, text).name[7:]}", len(text))
        for kind, text in ((CONFIG, "{}"), (MODEL, "weights"))
    ]
    manifest = root / "manifests/registry.ollama.ai/library/m/latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(encode_manifest(Manifest(2, "", layers[0], (layers[1],))))
    return root


@pytest.fixture
def prune(tmp_path: Path) -> Ollama:
    run = runner(tmp_path, "127.0.0.1:1")
    return lambda *arguments, **variables: run("prune", *arguments, **variables)


def blob(root: Path, text: str, *, suffix: str = "", days: float = 3.5) -> Path:
    path = root / "blobs" / f"sha256-{hashlib.sha256(text.encode()).hexdigest()}{suffix}"
    path.write_text(text)
    changed = time.time() - days * DAYS
    os.utime(path, (changed, changed))
    return path


def names(root: Path) -> set[str]:
    return {path.name for path in (root / "blobs").iterdir()}


def test_unused_and_partial_blobs_are_removed(models: Path, prune: Ollama) -> None:
    used = names(models)
    unused = blob(models, "unused" * 1000)
    partial = blob(models, "part", suffix="-partial")
    blob(models, "part", suffix="-partial-0")
    dry = prune("--dry-run")
    assert (dry.code, dry.err) == (0, "")
    rows = [line.split() for line in dry.out.splitlines()]
    assert rows[0] == ["FILE", "SIZE", "MODIFIED", "KIND"]
    assert [unused.name[:19], "6", "KB", "3", "days", "ago", "blob"] in rows
    assert [f"{partial.name[:19]}-partial-0", "4", "B", "3", "days", "ago", "unfinished"] in rows
    assert rows[-1] == ["would", "remove", "3", "files", "(6.0", "KB)"]
    assert names(models) - used == {unused.name, partial.name, f"{partial.name}-0"}
    assert prune().out.endswith("removed 3 files (6.0 KB)\n")
    assert names(models) == used


def test_nothing_to_remove(models: Path, prune: Ollama) -> None:
    assert prune() == Result(0, "removed 0 files (0 B)\n", "")
    assert json.loads(prune("--json").out) == {"dry_run": False, "remove": [], "keep": []}


def test_a_download_under_way_keeps_its_parts_and_complete_layers(models: Path, prune: Ollama) -> None:
    layer = blob(models, "first layer")
    state = blob(models, "second", suffix="-partial-0")
    active = blob(models, "second", suffix="-partial", days=0)
    abandoned = blob(models, "third", suffix="-partial")
    # What a creation has converted, and quantizes now.
    converted = blob(models, "fourth").rename(models / "blobs/COPY123")
    result = json.loads(prune("--json").out)
    assert [file["name"] for file in result["remove"]] == [abandoned.name]
    assert {file["name"] for file in result["keep"]} == {layer.name, state.name, active.name, converted.name}
    assert layer.exists()
    assert state.exists()
    assert active.exists()
    assert not abandoned.exists()
    assert prune().out == (
        "removed 0 files (0 B)\nkept 4 files (29 B), because a download or creation may be under way\n"
    )


def test_a_damaged_manifest_prevents_removal(models: Path, prune: Ollama) -> None:
    manifest = models / "manifests/registry.ollama.ai/library/m/latest"
    manifest.write_text("{")
    before = names(models)
    result = prune()
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(
        "Error: nothing was removed: a manifest is damaged, pull or remove its model: "
    )
    assert str(manifest) in result.err
    assert result.err.count("\n") == 1
    assert names(models) == before


def test_without_a_models_directory(tmp_path: Path, prune: Ollama) -> None:
    assert prune(OLLAMA_MODELS=str(tmp_path / "none")) == Result(
        1, "", f"Error: {tmp_path}/none is not a models directory: set OLLAMA_MODELS to that of the server\n"
    )


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="the file permissions of the user apply to others only"
)
def test_without_permission(models: Path, prune: Ollama) -> None:
    blob(models, "unused")
    (models / "blobs").chmod(0o555)
    result = prune()
    (models / "blobs").chmod(0o755)
    assert result.code == 1
    assert result.err.endswith(": run the command as the user of the server\n")
