"""``python -m tests.security.mutation [--server] KIND COUNT [SEED]``: try mutated files, report fatal ones.

KIND is model, projector or adapter. Exit status 1 if a file passed the check and ended or hung its process;
with ``--server``, if a file ended or hung the server to which it was uploaded.
"""

import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("GGML_NO_BACKTRACE", "1")

from tests.security.mutation.document import parse
from tests.security.mutation.operators import mutate
from tests.security.mutation.seeds import seeds
from tests.security.mutation.served import serving
from tests.security.mutation.trial import Tally, attempt


def survey(kind: str, count: int, seed: int, *, server: bool = False) -> Tally:
    """Try ``count`` mutated files of ``kind``; the same ``seed`` gives the same files.

    With ``server`` they are uploaded to one, which stays the same for all files.
    """
    choice = random.Random(seed)
    tally = Tally()
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        served = stack.enter_context(serving()) if server else None
        folder = Path(directory)
        found = [(seed, parse(seed.path)) for seed in seeds(kind, folder)]
        for number in range(count):
            chosen, document = found[number % len(found)]
            data, description = mutate(choice, document)
            path = folder / "mutated.gguf"
            path.write_bytes(data)
            if served is not None:
                outcome = served.attempt(path, chosen)
            else:
                outcome = attempt(path, chosen.check, chosen.plan(path), chosen.image)
            tally.add(f"{chosen.name}: {description}", outcome)
    return tally


def main(arguments: Sequence[str]) -> int:
    """Print a report and return the exit status."""
    server = "--server" in arguments
    kind, count, *rest = (one for one in arguments if one != "--server")
    began = time.monotonic()
    tally = survey(kind, int(count), int(rest[0]) if rest else 1, server=server)
    for description, outcome in tally.fatal:
        print(f"{outcome.kind} [{outcome.text}] {description}")
    for reason, number in Counter(outcome.text for _, outcome in tally.fatal).most_common(40):
        print(f"{number:6d}  {reason}")
    print(dict(tally.counts), f"{time.monotonic() - began:.0f} s")
    return 1 if tally.fatal else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
