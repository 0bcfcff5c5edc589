"""The package can be imported on systems without POSIX; `make lint` also runs mypy for them."""

import subprocess
import sys
from pathlib import Path

from tests.helpers import PATIENCE, ROOT

SCRIPT = Path(__file__).with_name("without_posix.py")


def test_modules_and_file_helpers_need_no_posix() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    modules = [path for path in (ROOT / "ollama_tw").rglob("*.py") if path.name != "__init__.py"]
    assert int(done.stdout) >= len(modules)
