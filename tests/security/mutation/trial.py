"""Trials of mutated files: our check, then llama.cpp in a forked child process.

The parent imports llama.cpp but never calls it, so that a fork is cheap and sound. POSIX only.
"""

import os
import resource
import select
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_tw.gguf.reader import GGUFError, Header, read_header
from ollama_tw.interfaces import IMAGE_MARKER, Job, LoadError, LoadPlan, RunnerError, Sampling
from ollama_tw.llama.runner import LlamaRunner

TIME_LIMIT = 20.0
"""Seconds after which a trial counts as hung."""

_MEMORY_LIMIT = 8 << 30

Check = Callable[[Header], None]
"""Raises GGUFError for a file that must not reach llama.cpp."""


@dataclass(frozen=True)
class Outcome:
    """``kind``: ``refused`` by the check, ``rejected`` by llama.cpp, ``ran``, ``killed`` or ``hung``."""

    kind: str
    text: str = ""


@dataclass
class Tally:
    """Counts of the outcomes, and the description and the outcome of each file that killed or hung."""

    counts: Counter[str] = field(default_factory=Counter)
    fatal: list[tuple[str, Outcome]] = field(default_factory=list)

    def add(self, description: str, outcome: Outcome) -> None:
        """Count an outcome."""
        self.counts[outcome.kind] += 1
        if outcome.kind in ("killed", "hung"):
            self.fatal.append((description, outcome))


def attempt(path: Path, check: Check, plan: Mapping[str, Any], image: bytes = b"") -> Outcome:
    """Check the file ``path``; if it passes, load and run the model of ``plan`` in a child process."""
    try:
        check(read_header(path))
    except GGUFError as error:
        return Outcome("refused", str(error))
    return _in_child(plan, image)


def _in_child(plan: Mapping[str, Any], image: bytes) -> Outcome:
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if not child:
            os.close(reading)
            os.dup2(errors.fileno(), 2)
            os.dup2(errors.fileno(), 1)
            _become_trial(plan, image, writing)
        os.close(writing)
        ready, _, _ = select.select([reading], [], [], TIME_LIMIT)
        result = os.read(reading, 4096) if ready else None
        if result is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reading)
        errors.seek(0)
        said = [line for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if result is None:
        return Outcome("hung")
    if os.WIFSIGNALED(status):
        reason = next((line for line in said if "ASSERT" in line or "terminate" in line), "".join(said[-1:]))
        return Outcome("killed", f"{signal.Signals(os.WTERMSIG(status)).name}: {reason[-200:]}")
    kind, _, text = result.decode("utf-8", "replace").partition(" ")
    return Outcome(kind or "killed", text)


def _become_trial(plan: Mapping[str, Any], image: bytes, writing: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    try:
        text = _exercise(plan, image)
    except (LoadError, RunnerError) as error:
        text = f"rejected {error}"
    except BaseException as error:
        text = f"rejected ({type(error).__name__}) {error}"
    os.write(writing, text.encode()[:4000])
    os._exit(0)


def _exercise(plan: Mapping[str, Any], image: bytes) -> str:
    fields = {"context_length": 128, "threads": 1, "slots": 2, "batch": 64, **plan}
    runner = LlamaRunner(LoadPlan(**fields), [], lambda done: True)
    cancel = threading.Event()
    refusals = 0
    try:
        prompts = ["hi w01 wé\n", "x" * 100]
        jobs = [Job(text, Sampling(temperature=0), max_tokens=4) for text in prompts]
        if image:
            text = f"a {IMAGE_MARKER} b"
            jobs.append(Job(text, Sampling(temperature=0), max_tokens=2, images=(image,)))
        for job in jobs:
            try:
                for _ in runner.generate(job):
                    pass
            except RunnerError:
                refusals += 1
        for use in (
            lambda: runner.embed(["hi", "w02 there"], cancel),
            lambda: runner.rank("q", ["d", "e"], cancel),
        ):
            try:
                use()
            except RunnerError:
                refusals += 1
    finally:
        runner.close()
    return f"ran {refusals}"
