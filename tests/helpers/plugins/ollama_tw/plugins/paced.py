"""Backend whose models take 5 ms for a token, so that requests to them overlap.

The output is as many words as the last ``COUNT `` of the prompt says, else the characters of the prompt
without end. Everything else, such as the prompt cache, is that of the fake backend.
"""

import re
import time
from collections.abc import Iterator

from ollama_tw.testing.fake import FakeBackend, echo


def reply(prompt: str) -> Iterator[str]:
    found = re.findall(r"COUNT (\d+)", prompt)
    for piece in (f" {number}" for number in range(int(found[-1]))) if found else echo(prompt):
        time.sleep(0.005)
        yield piece


backend = FakeBackend(reply, name="paced")
