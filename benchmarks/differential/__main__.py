"""Compare two servers: ``python -m benchmarks.differential --help``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.differential.cases import read_cases
from benchmarks.differential.comparison import read_deliberate
from benchmarks.differential.exchange import PREFIX, LiveServer
from benchmarks.differential.recording import Recording, read, write
from benchmarks.differential.run import judge, record, report

REFERENCE = "OLLAMA_TW_REFERENCE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if all differences are deliberate, 1 if not, 2 without a reference."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.differential",
        description="Send the same requests to a reference and to a candidate, and report what differs.",
    )
    parser.add_argument(
        "--reference",
        default=os.environ.get(REFERENCE, ""),
        help=f"URL of a server with Ollama's API, or a recording of one (or the variable {REFERENCE})",
    )
    parser.add_argument("--candidate", help="URL of the server to judge, or a recording of it")
    parser.add_argument("--chat", type=Path, required=True, help="GGUF file of a model that chats")
    parser.add_argument("--embed", type=Path, required=True, help="GGUF file of an embedding model")
    parser.add_argument("--record", type=Path, help="write the replies of the reference to this xz file")
    given = parser.parse_args(arguments)
    if not given.reference:
        print(f"no reference is named: skipped. Give --reference or set {REFERENCE}.")
        return 2
    files = {"chat": given.chat, "embed": given.embed}
    reference = _replies(given.reference, files)
    if given.record:
        write(given.record, reference)
    if not given.candidate:
        return 0
    result = judge(reference, _replies(given.candidate, files), read_deliberate())
    report(result, sys.stdout)
    return 1 if result.unexpected else 0


def _replies(source: str, files: dict[str, Path]) -> Recording:
    if "://" not in source:
        return read(Path(source))
    cases = read_cases({key: PREFIX + key for key in files})
    return record(LiveServer(source.rstrip("/")), cases, files, lambda text: print(text, file=sys.stderr))


if __name__ == "__main__":
    sys.exit(main())
