"""A model with ``num_thread: 300`` in a process of a user that may start few threads.

Root is not limited: as root, the child process becomes another user after its imports.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.security.llamas import write_llama

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux counts threads as processes")

_NOBODY = 65534

_CHILD = f"""
import os, resource, sys
import psutil
from ollama_tw.interfaces import Job, LoadPlan, Sampling
from ollama_tw.llama.runner import LlamaRunner

if os.geteuid() == 0:
    # A user for each test: another one may run at the same time.
    os.setgid({_NOBODY} - int(sys.argv[2]))
    os.setuid({_NOBODY} - int(sys.argv[2]))
own = [process for process in psutil.process_iter(["uids"]) if process.info["uids"].real == os.getuid()]
limit = sum(process.num_threads() for process in own) + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
plan = LoadPlan(sys.argv[1], context_length=128, threads=300, slots=1, batch=64)
runner = LlamaRunner(plan, [], lambda done: True)
for piece in runner.generate(Job("hi w01", Sampling(temperature=0), max_tokens=4)):
    pass
runner.close()
print(piece.usage.output_tokens)
"""


@pytest.mark.parametrize("free", [1, 8, 40])
def test_threads_stay_below_the_limit_of_the_user(tmp_path: Path, free: int) -> None:
    # Readable for another user, unlike the directory of the test.
    model = os.memfd_create("model")
    write_llama(tmp_path / "m.gguf")
    os.write(model, (tmp_path / "m.gguf").read_bytes())
    os.fchmod(model, 0o644)
    command = [sys.executable, "-c", _CHILD, f"/proc/self/fd/{model}", str(free)]
    child = subprocess.run(
        command, cwd=ROOT, pass_fds=[model], capture_output=True, text=True, check=False, timeout=120
    )
    assert (child.returncode, child.stdout) == (0, "4\n"), child.stderr
