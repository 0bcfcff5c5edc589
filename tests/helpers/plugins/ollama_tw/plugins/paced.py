"""Backend whose models take 5 ms for a token, so that requests to them overlap.

The output is as many words as the last ``COUNT `` of the prompt says, else the characters of the prompt
without end. While the file exists that ``PACED_HOLD`` names, replies stop after their first token. Everything
else, such as the prompt cache, is that of the fake backend.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from ollama_tw.testing.fake import FakeBackend, echo


def reply(prompt: str) -> Iterator[str]:
    found = re.findall(r"COUNT (\d+)", prompt)
    pieces = (f" {number}" for number in range(int(found[-1]))) if found else echo(prompt)
    for number, piece in enumerate(pieces):
        time.sleep(0.005)
        while number and _is_held():
            time.sleep(0.005)
        yield piece


def _is_held() -> bool:
    name = os.environ.get("PACED_HOLD", "")
    return bool(name) and Path(name).exists()


backend = FakeBackend(reply, name="paced")
