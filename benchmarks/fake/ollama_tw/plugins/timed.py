"""Backend whose models take 20 ms for a token and no processor time, as a device of its own would.

It requires ``benchmarks/fake`` in PYTHONPATH and OLLAMA_LLM_LIBRARY=timed. The output repeats the prompt.
"""

import time
from collections.abc import Iterator

from ollama_tw.testing.fake import FakeBackend, echo

_TOKEN_SECONDS = 0.020


def reply(prompt: str) -> Iterator[str]:
    for piece in echo(prompt):
        time.sleep(_TOKEN_SECONDS)
        yield piece


backend = FakeBackend(reply, name="timed")
