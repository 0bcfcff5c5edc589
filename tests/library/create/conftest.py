from pathlib import Path

import pytest

from tests.gguf.files import write_gguf
from tests.library.create.making import Workshop


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def tiny(shop: Workshop, tmp_path: Path) -> str:
    """An uploaded model in F16."""
    return shop.upload(write_gguf(tmp_path / "tiny.gguf"))
