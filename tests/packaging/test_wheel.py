"""The wheel, installed into an environment without the source tree."""

import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.request
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import psutil
import pytest

from tests.helpers import PATIENCE, ROOT
from tests.helpers.process import environment
from tests.helpers.server import Server

# Content of the scripts that pip writes for Twisted, which is installed in the other environment.
TWISTED_PROGRAMS = {
    "twistd": "from twisted.scripts.twistd import run; run()",
    "twist": "from twisted.application.twist._twist import Twist; Twist.main()",
}
SOURCES = ["setup.py", "pyproject.toml", "README.md", "LICENSE", "ollama_tw", "twisted"]


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command to its good end: what it wrote."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environment(cwd, {}), "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=4 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        copy(ROOT / name, source / name)
    return build(source, tmp_path_factory.mktemp("wheel"))


def copy(source: Path, target: Path) -> None:
    unwanted = shutil.ignore_patterns("__pycache__", "dropin.cache", "build", "*.egg-info")
    if source.is_dir():
        shutil.copytree(source, target, ignore=unwanted)
    else:
        shutil.copy(source, target)


def build(source: Path, target: Path) -> Path:
    """Build the wheel of a copy of a source tree and return its path."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    call(*pip, "--wheel-dir", target, source, cwd=source)
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment and return the folder of its programs.

    Its dependencies are those of the environment in which the tests run.
    """
    environment = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    programs = environment / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install"]
    call(*pip, "--no-deps", "--no-index", wheel, cwd=environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    # Lines of this file are appended to the path as they are: editable installations there do not work.
    (packages / "dependencies.pth").write_text(
        "".join(sysconfig.get_path(name) + "\n" for name in ("purelib", "platlib"))
    )
    for name, code in TWISTED_PROGRAMS.items():
        (programs / name).write_text(f"#!{programs / 'python'}\n{code}\n")
        (programs / name).chmod(0o755)
    return programs


def test_the_wheel_holds_the_package_and_one_file_of_twisted(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        about = message_from_bytes(archive.read(metadata))
        (points,) = (name for name in names if name.endswith("/entry_points.txt"))
        assert archive.read(points).decode().split() == [
            "[console_scripts]",
            "ollama",
            "=",
            "ollama_tw.cli.main:main",
        ]
    assert wheel.name == "ollama_tw-0.6.0-py3-none-any.whl"
    assert (about["Name"], about["Version"]) == ("ollama-tw", "0.6.0")
    assert about["Requires-Python"] == ">=3.11"
    assert [name for name in names if name.startswith("twisted/")] == ["twisted/plugins/ollama_plugin.py"]
    assert "ollama_tw/py.typed" in names
    assert any(name.endswith("/LICENSE") for name in names)
    roots = {name.partition("/")[0] for name in names}
    assert roots == {"ollama_tw", "twisted", "ollama_tw-0.6.0.dist-info"}


@pytest.mark.parametrize("pattern", ["ollama_tw/**/*.py", "ollama_tw/http/ui/static/*"])
def test_all_files_of_the_source_tree_are_in_the_wheel(wheel: Path, pattern: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)}
    assert files
    assert files <= names


def test_it_is_the_installed_package_that_is_found(installed: Path, tmp_path: Path) -> None:
    where = call(installed / "python", "-c", "import ollama_tw; print(ollama_tw.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert call(installed / "ollama", "--help", cwd=tmp_path).startswith("Usage: ollama")


def test_twistd_and_twist_list_the_plugin(installed: Path, tmp_path: Path) -> None:
    for program in ("twistd", "twist"):
        assert "The Ollama server." in call(installed / program, "--help", cwd=tmp_path)
        options = call(installed / program, "ollama", "--help", cwd=tmp_path)
        assert "--num-parallel=" in options


def backends(programs: Path, cwd: Path) -> list[str]:
    """Return the names of the backends that the installed package discovers."""
    code = (
        "from ollama_tw.engine.backends import discover\n"
        "print(*sorted(one.backend.name for one in discover()))"
    )
    return call(programs / "python", "-c", code, cwd=cwd).split()


def test_backends_are_found(installed: Path, tmp_path: Path) -> None:
    assert backends(installed, tmp_path) == ["cpu", "cuda", "gpu", "metal", "rocm", "vulkan"]


def test_a_backend_of_others_comes_with_its_wheel_and_goes_with_it(installed: Path, tmp_path: Path) -> None:
    for name in ("echo", "ray", "upstream"):
        copy(ROOT / "contrib" / f"ollama-tw-{name}", tmp_path / name)
        wheel = build(tmp_path / name, tmp_path / f"{name}-wheel")
        pip = [sys.executable, "-m", "pip", "--python", str(installed / "python")]
        call(*pip, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
        assert name in backends(installed, tmp_path)
        call(*pip, "uninstall", "--yes", f"ollama-tw-{name}", cwd=tmp_path)
        assert backends(installed, tmp_path) == ["cpu", "cuda", "gpu", "metal", "rocm", "vulkan"]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[list[Server]]:
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.discard()


@pytest.mark.parametrize(
    ("command", "statuses"),
    [
        (["ollama", "serve"], {0}),
        # These two end by the signal itself, after the service has stopped.
        (["twistd", "--nodaemon", "ollama"], {0, -signal.SIGTERM}),
        (["twist", "--log-format=text", "ollama"], {0, -signal.SIGTERM}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_server_runs_in_any_directory(
    installed: Path, tmp_path: Path, serve: list[Server], command: list[str], statuses: set[int]
) -> None:
    program, *arguments = command
    server = Server(tmp_path / "any", command=[str(installed / program), *arguments], PYTHONPATH="")
    serve.append(server)
    server.ready()
    assert server.get("/api/version").body == b'{"version":"0.34.2"}'
    assert server.get("/api/tags").body == b'{"models":[]}'
    assert (server.home / ".ollama/id_ed25519").exists()
    assert server.stop() in statuses
    assert "stopping: 0 running requests" in server.log
    assert "Traceback" not in server.log


def test_options_of_twistd_are_settings(installed: Path, tmp_path: Path, serve: list[Server]) -> None:
    options = ["--host", "127.0.0.1:0", "--models", str(tmp_path / "models")]
    command = [str(installed / "twistd"), "--nodaemon", "ollama", *options]
    server = Server(tmp_path / "any", command=command, PYTHONPATH="", OLLAMA_HOST="127.0.0.1:1")
    serve.append(server)
    server.ready()
    assert server.get("/api/version").status == 200
    assert (tmp_path / "models/blobs").is_dir()


def test_twistd_goes_into_the_background(installed: Path, tmp_path: Path) -> None:
    call(installed / "twistd", "ollama", "--host", "127.0.0.1:0", cwd=tmp_path)
    daemon = psutil.Process(int((tmp_path / "twistd.pid").read_text()))
    try:
        # twistd returns when its child has bound the port.
        log = tmp_path / "twistd.log"
        bound = re.search(r"bound to (127\.0\.0\.1:\d+)", log.read_text())
        assert bound is not None
        with urllib.request.urlopen(f"http://{bound[1]}/api/version", timeout=PATIENCE) as reply:
            assert reply.read() == b'{"version":"0.34.2"}'
        daemon.terminate()
        daemon.wait(PATIENCE)
        assert "stopping: 0 running requests" in log.read_text()
        assert not (tmp_path / "twistd.pid").exists()
    finally:
        if daemon.is_running():
            daemon.kill()
