"""Units of systemd, as the installed version of systemd reads them."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "contrib/systemd"


def test_systemd_accepts_every_line_of_the_units() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    units = [str(UNITS / name) for name in ("ollama.service", "ollama.socket")]
    result = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    # Lines that it does not understand are warnings.
    assert [line for line in result.stderr.splitlines() if str(UNITS) in line] == []
