"""Fixtures of all tests: real models, programs that may be missing; and the markers that follow."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers import ROOT

# Before llama.cpp is loaded in this process: its threads would spin against other programs.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# A shell ignores the signal in its background jobs, and so would the programs that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The time of an example depends on what else the machine does; pytest-timeout bounds each test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

CACHE = ROOT / ".cache"
"""Folder into which ``make test`` downloads the models."""

MARKERS = {
    "smollm2_gguf": "model",
    "qwen_gguf": "model",
    "minilm_files": "model",
    "registry_program": "registry",
    "browser_program": "browser",
    "cluster": "cluster",
}
"""Markers of the tests that use a fixture, directly or through another fixture."""

SLOW = (
    *("benchmarks", "browser", "cluster", "contract", "e2e", "llama", "packaging", "peers", "process"),
    *("runner", "security"),
    *(
        "cli/test_commands.py",
        "cli/test_completion.py",
        "cli/test_doctor.py",
        "cli/test_failures.py",
        "cli/test_fit.py",
        "cli/test_import.py",
        "cli/test_kinds.py",
        "cli/test_real_session.py",
        "cli/test_launch.py",
        "cli/test_logs.py",
        "cli/bench/test_bench.py",
        "cli/test_registry.py",
        "cli/test_session.py",
        "cli/test_starting.py",
        "cli/test_terminal.py",
        "cli/test_top.py",
    ),
    *("clients/test_fuzz.py", "docs/test_in_your_application.py", "library/test_crash.py"),
    *("registry/test_kills.py", "templates/gotemplate/test_evaluator.py"),
    *("engine/test_state_files.py", "grammar/test_combined.py", "inference/edge_cases/test_families.py"),
    *("library/test_partials.py", "support/test_router.py"),
)
"""Folders and files whose tests start server processes, load models, or feed many or large inputs."""


SLOW_PATHS = frozenset(Path(__file__).parent / name for name in SLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import the slow files where the expression of ``-m`` leaves them out (``make test-fast``)."""
    excluded = "not slow" in config.getoption("markexpr")
    return True if excluded and collection_path in SLOW_PATHS else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the markers of the fixtures that a test uses, and of the folder in which it is."""
    for item in items:
        if item.path in SLOW_PATHS or not SLOW_PATHS.isdisjoint(item.path.parents):
            item.add_marker("slow")
        for name in getattr(item, "fixturenames", ()):
            if name in MARKERS:
                item.add_marker(MARKERS[name])


@pytest.fixture(scope="session")
def smollm2_gguf() -> str:
    """Return the path of the GGUF file of SmolLM2-135M-Instruct, or skip the test."""
    named = os.environ.get("OLLAMA_TW_SMOLLM2")
    found = [Path(named)] if named else sorted(CACHE.glob("*mol*m2*.gguf"))
    if not found or not found[0].is_file():
        pytest.skip("no SmolLM2: run make test, or set OLLAMA_TW_SMOLLM2 to its GGUF file")
    return str(found[0].resolve())


@pytest.fixture(scope="session")
def qwen_gguf() -> str:
    """Return the path of the GGUF file of Qwen2.5-Coder-0.5B-Instruct, or skip the test."""
    named = os.environ.get("OLLAMA_TW_QWEN")
    found = [Path(named)] if named else sorted(CACHE.glob("*wen2.5-*oder-0.5*.gguf"))
    if not found or not found[0].is_file():
        pytest.skip("no Qwen2.5-Coder-0.5B-Instruct: set OLLAMA_TW_QWEN to its GGUF file")
    return str(found[0].resolve())


@pytest.fixture(scope="session")
def minilm_files() -> dict[str, Path]:
    """Return the files of all-MiniLM-L6-v2 (safetensors, tokenizer, settings) by name, or skip the test."""
    folder = Path(os.environ.get("OLLAMA_TW_MINILM", CACHE / "all-MiniLM-L6-v2"))
    if not (folder / "model.safetensors").is_file():
        pytest.skip("no safetensors of all-MiniLM-L6-v2: run make test, or set OLLAMA_TW_MINILM")
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def registry_program() -> str:
    """Return the path of the distribution project's registry, or skip the test."""
    found = shutil.which("docker-registry") or shutil.which("registry")
    if found is None:
        pytest.skip("docker-registry is not installed")
    return found


@pytest.fixture(scope="session")
def llama_server_program() -> str:
    """Return the path of llama.cpp's llama-server, or skip the test."""
    found = shutil.which(os.environ.get("OLLAMA_TW_LLAMA_SERVER", "llama-server"))
    if found is None:
        pytest.skip("llama-server is not installed: set OLLAMA_TW_LLAMA_SERVER to its path")
    return found


@pytest.fixture(scope="session")
def browser_program() -> str:
    """Return the path of Chromium, or skip the test."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("Chromium is not installed")
    return found
