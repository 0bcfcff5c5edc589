"""``python -m tests.security.mutation KIND COUNT [SEED]``: try mutated files and report the fatal ones.

KIND is model, projector or adapter. Exit status 1 if a file passed the check and ended or hung its process.
"""

import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("GGML_NO_BACKTRACE", "1")

from tests.security.mutation.document import parse
from tests.security.mutation.operators import mutate
from tests.security.mutation.seeds import seeds
from tests.security.mutation.trial import Tally, attempt


def survey(kind: str, count: int, seed: int) -> Tally:
    """Try ``count`` mutated files of ``kind``; the same ``seed`` gives the same files."""
    choice = random.Random(seed)
    tally = Tally()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        found = [(seed, parse(seed.path)) for seed in seeds(kind, folder)]
        for number in range(count):
            chosen, document = found[number % len(found)]
            data, description = mutate(choice, document)
            path = folder / "mutated.gguf"
            path.write_bytes(data)
            outcome = attempt(path, chosen.check, chosen.plan(path), chosen.image)
            tally.add(f"{chosen.name}: {description}", outcome)
    return tally


def main(arguments: Sequence[str]) -> int:
    """Print a report and return the exit status."""
    kind, count, *rest = arguments
    began = time.monotonic()
    tally = survey(kind, int(count), int(rest[0]) if rest else 1)
    for description, outcome in tally.fatal:
        print(f"{outcome.kind} [{outcome.text}] {description}")
    for reason, number in Counter(outcome.text for _, outcome in tally.fatal).most_common(40):
        print(f"{number:6d}  {reason}")
    print(dict(tally.counts), f"{time.monotonic() - began:.0f} s")
    return 1 if tally.fatal else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
