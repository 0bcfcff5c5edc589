"""A backend controlled by files; copied to the plugins of a server process.

In the folder that PUPPET_DIR names: ``probing`` keeps probes from returning, ``gate`` lets replies go on
after their first piece, ``stall`` keeps loads from moving, ``fail`` holds the text with which loads fail,
``devices.json`` the devices; ``plans.jsonl`` is written: the plan of every load.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import (
    Device,
    DoneReason,
    Embedding,
    IBackend,
    IRunner,
    Job,
    LoadCancelled,
    LoadError,
    LoadPlan,
    Piece,
    Probe,
    Progress,
    Usage,
)

WORDS = [f"word{number} " for number in range(20)]
POLL = 0.005


def folder() -> Path:
    return Path(os.environ["PUPPET_DIR"])


@implementer(IRunner)
class PuppetRunner:
    size = 1 << 20
    size_gpu = 0
    bos_text = eos_text = ""
    adds_bos = False

    def __init__(self, plan: LoadPlan) -> None:
        self.context_length = plan.context_length
        self.slots = plan.slots
        self.metadata: dict[str, str] = {}

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        return list(map(ord, text))

    def detokenize(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def generate(self, job: Job) -> Iterator[Piece]:
        yield Piece(WORDS[0])
        while not (folder() / "gate").exists() and not job.cancel.is_set():
            time.sleep(POLL)
        if job.cancel.is_set():
            yield Piece("", done=DoneReason.CANCELLED, usage=Usage(3, 0, 1, 1, 1))
            return
        for word in WORDS[1:]:
            yield Piece(word)
        yield Piece("", done=DoneReason.STOP, usage=Usage(3, 1, 1, len(WORDS), 1))

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> list[Embedding]:
        return []

    def close(self) -> None:
        pass


@implementer(IPlugin, IBackend)
class PuppetBackend:
    name = "puppet"
    priority = -1

    def probe(self) -> Probe:
        while (folder() / "probing").exists():
            time.sleep(POLL)
        try:
            devices = json.loads((folder() / "devices.json").read_text())
        except (OSError, ValueError):  # absent, or being written
            devices = [["CPU", "", "cpu", 1 << 34, 1 << 34]]
        return Probe(tuple(Device(*device) for device in devices))

    def load(self, plan: LoadPlan, progress: Progress) -> PuppetRunner:
        with (folder() / "plans.jsonl").open("a") as plans:
            plans.write(json.dumps(asdict(plan)) + "\n")
        progress(0.42)
        while (folder() / "stall").exists():
            if not progress(0.42):
                raise LoadCancelled("the load was cancelled")
            time.sleep(POLL)
        if (folder() / "fail").exists():
            raise LoadError((folder() / "fail").read_text())
        return PuppetRunner(plan)


backend = PuppetBackend()
