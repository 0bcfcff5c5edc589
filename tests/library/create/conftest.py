from pathlib import Path

import pytest

from tests.helpers.gguf_files import write_gguf
from tests.library.create.harness import CreationHarness


@pytest.fixture
def harness(tmp_path: Path) -> CreationHarness:
    return CreationHarness(tmp_path)


@pytest.fixture
def tiny(harness: CreationHarness, tmp_path: Path) -> str:
    """Digest of an uploaded F16 model."""
    return harness.upload(write_gguf(tmp_path / "tiny.gguf"))
