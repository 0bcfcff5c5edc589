from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the module whose collection takes seconds where its tests would be deselected."""
    deselected = "not slow" in config.getoption("markexpr")
    return True if deselected and collection_path.name == "test_contract.py" else None
