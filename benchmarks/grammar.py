"""Grammar engines compared: schemas that they take, documents that they write, time of each token.

``python benchmarks/grammar.py --vocabulary MODEL.gguf --schemas FILE.json.xz``; benchmarks/README.md. Times
are processor times.
"""

import argparse
import json
import lzma
import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
import referencing

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.grammar_engines import ENGINES, Mask, Matcher, Refused, Vocabulary, installed

_SPACE = b" \t\r\n"
_CLOSING = frozenset(b'"}]')
_PRINTABLE = (0x20, 0x7E)


@dataclass
class Result:
    """Result of an engine for a schema; times are processor times in seconds."""

    refused: str = ""
    notes: int = 0
    """Keywords that the engine reports as not enforced."""
    first: float = 0.0
    """From the schema to the tokens that may come first."""
    masks: list[float] = field(default_factory=list)
    accepts: list[float] = field(default_factory=list)
    """Times to check and append one token."""
    documents: list[str] = field(default_factory=list)
    unfinished: int = 0
    stuck: str = ""
    """Why no token was allowed."""


class Walk:
    """A random text of a grammar, token by token.

    Tokens are not equally likely: the walk prefers those that end strings, arrays and objects, and avoids
    white space, so that it comes to an end.
    """

    def __init__(self, pieces: Sequence[bytes], end: int, choice: random.Random) -> None:
        self._pieces = pieces
        self._end = end
        self._choice = choice
        first = np.array([piece[0] if piece else 0 for piece in pieces])
        self._first = first
        self._printable = (first >= _PRINTABLE[0]) & (first <= _PRINTABLE[1])
        self._space = np.array([bool(piece) and not piece.strip(_SPACE) for piece in pieces])
        self._closing = np.array([bool(piece) and _CLOSING.issuperset(piece) for piece in pieces])

    def text(self, matcher: Matcher, limit: int, result: Result) -> bytes | None:
        """Return a complete text, None if it is not complete after ``limit`` tokens; add its times."""
        found: list[bytes] = []
        for _ in range(limit):
            began = time.process_time()
            mask = matcher.mask()
            result.masks.append(time.process_time() - began)
            if not mask.any():
                raise Refused("no token is allowed")
            if mask[self._end] and (mask.sum() == 1 or self._choice.random() < 0.8):
                return b"".join(found)
            token = self.next(mask)
            began = time.process_time()
            accepted = matcher.accept(token)
            result.accepts.append(time.process_time() - began)
            if not accepted:
                raise Refused(f"{self._pieces[token]!r} is in the mask but not accepted")
            found.append(self._pieces[token])
        return None

    def next(self, mask: Mask) -> int:
        """Return one of the allowed tokens but the end."""
        allowed = mask.copy()
        allowed[self._end] = False
        for preferred, part in ((self._closing, 0.4), (~self._space, 0.9), (self._printable, 0.9)):
            some = allowed & preferred
            if some.any() and self._choice.random() < part:
                allowed = some
        tokens = np.flatnonzero(allowed)
        firsts = self._first[tokens]
        letter = self._choice.choice(np.unique(firsts).tolist())
        return int(self._choice.choice(tokens[firsts == letter].tolist()))


def examine(
    compile_schema: Callable[[Mapping[str, Any]], Callable[[], Matcher]],
    walk: Walk,
    schema: Mapping[str, Any],
    documents: int,
    limit: int,
) -> Result:
    """Return how an engine processes ``schema``, with random texts of at most ``limit`` tokens."""
    result = Result()
    began = time.process_time()
    try:
        begin = compile_schema(schema)
        begin().mask()
    except Refused as error:
        result.refused = str(error) or "refused"
        return result
    result.first = time.process_time() - began
    for _ in range(documents):
        try:
            text = walk.text(begin(), limit, result)
        except Refused as error:
            result.stuck = str(error)
        else:
            if text is None:
                result.unfinished += 1
            else:
                result.documents.append(text.decode("utf-8", "replace"))
    return result


def accepts(matcher: Matcher, tokens: Iterable[int], end: int) -> bool:
    """Return whether the text of ``tokens`` is a complete one."""
    return all(matcher.accept(token) for token in tokens) and bool(matcher.mask()[end])


def judge(schema: Mapping[str, Any], text: str) -> bool | None:
    """Return whether ``text`` is valid; None for a schema that the validator cannot process."""
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    try:
        value = json.loads(text)
    except ValueError:
        return False
    try:
        # The registry is empty: other documents are not fetched.
        checked = kind(schema, format_checker=kind.FORMAT_CHECKER, registry=referencing.Registry())
        return bool(checked.is_valid(value))
    except Exception:  # References to other documents, patterns that Python does not support.
        return None


def compact(text: str) -> str:
    """Return the JSON ``text`` as most models write it, in one line."""
    return json.dumps(json.loads(text), ensure_ascii=False)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that ``part`` of the values do not exceed; 0 for no values."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def row(name: str, setup: float, memory: int, results: Sequence[Result], valid: tuple[int, int]) -> str:
    """Return a row of the table of times; ``valid`` counts valid documents and all that were judged."""
    taken = [one for one in results if not one.refused]
    masks = [value for one in taken for value in one.masks]
    checks = [value for one in taken for value in one.accepts]
    firsts = [one.first for one in taken]
    times = [
        f"{percentile(values, part) * 1e3:.2f}" for values in (firsts, masks, checks) for part in (0.5, 0.99)
    ]
    return (
        f"| {name} | {len(taken)} of {len(results)} | {valid[0]} of {valid[1]} | {setup:.1f} "
        f"| {' | '.join(times)} | {memory / 2**20:.0f} |"
    )


def _work(pipe: Connection, name: str, path: str, seed: int) -> None:
    """Examine the schemas that come through ``pipe``: an engine may hang, or end its process."""
    vocabulary = Vocabulary(path)
    process = psutil.Process()
    before = process.memory_info().rss
    began = time.process_time()
    engine = ENGINES[name][1](vocabulary)
    pipe.send(time.process_time() - began)
    walk = Walk(vocabulary.pieces, vocabulary.end, random.Random(seed))
    while True:
        schema, documents, limit, texts = pipe.recv()
        result = examine(engine.compile, walk, schema, documents, limit)
        result.notes = len(engine.notes)
        taken = []
        for text in texts if not result.refused else ():
            tokens = vocabulary.llama.spell(text.encode())
            if tokens is not None:
                taken.append(accepts(engine.compile(schema)(), tokens, vocabulary.end))
        pipe.send((result, taken, process.memory_info().rss - before))


class Worker:
    """An engine with a vocabulary in a process of its own, which is replaced when it hangs or dies."""

    def __init__(self, name: str, path: str, seed: int, timeout: float) -> None:
        self._arguments = (name, path, seed)
        self._timeout = timeout
        self.memory = 0
        """Bytes that the engine has added to the process at most."""
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_work, args=(end, *self._arguments), daemon=True)
        self._process.start()
        end.close()
        self.setup: float = self._pipe.recv()

    def examine(
        self, schema: Mapping[str, Any], documents: int, limit: int, texts: Sequence[str] = ()
    ) -> tuple[Result, list[bool]]:
        """Return how the engine processes ``schema``, and which of ``texts`` it accepts."""
        self._pipe.send((schema, documents, limit, texts))
        try:
            if self._pipe.poll(self._timeout):
                result, taken, memory = self._pipe.recv()
                self.memory = max(self.memory, memory)
                return result, taken
            reason = f"no result after {self._timeout:.0f} s"
        except EOFError:
            reason = "the process ended"
        self.close()
        self._begin()
        return Result(refused=reason), []

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def read_schemas(paths: Iterable[str]) -> dict[str, Any]:
    """Return the schemas of files, by name: objects of schemas in JSON, compressed or not."""
    schemas: dict[str, Any] = {}
    for path in map(Path, paths):
        data = path.read_bytes()
        schemas |= json.loads(lzma.decompress(data) if path.suffix == ".xz" else data)
    return schemas


def compare(
    path: str, engines: Sequence[str], schemas: Mapping[str, Any], settings: argparse.Namespace
) -> list[dict[str, Any]]:
    """Print the figures of the engines with one vocabulary, and return the results of each schema."""
    valid: dict[str, dict[str, list[str]]] = {}
    records: list[dict[str, Any]] = []
    for engine in engines:
        worker = Worker(engine, path, settings.seed, settings.timeout)
        results: list[Result] = []
        judged: list[bool] = []
        written = valid.setdefault(engine, {})
        for name, schema in schemas.items():
            result, _ = worker.examine(schema, settings.documents, settings.tokens)
            results.append(result)
            verdicts = [judge(schema, text) for text in result.documents]
            known = [verdict for verdict in verdicts if verdict is not None]
            judged += known
            pairs = zip(result.documents, verdicts, strict=True)
            written[name] = [compact(text) for text, verdict in pairs if verdict]
            wrong = [
                text for text, verdict in zip(result.documents, verdicts, strict=True) if verdict is False
            ]
            records.append(
                {"engine": engine, "vocabulary": path, "schema": name, "wrong": wrong, **vars(result)}
            )
        print(row(engine, worker.setup, worker.memory, results, (sum(judged), len(judged))), flush=True)
        worker.close()
    if settings.cross:
        for engine in engines:
            worker = Worker(engine, path, settings.seed, settings.timeout)
            for author in engines:
                taken = [
                    verdict
                    for name, schema in schemas.items()
                    if valid[author][name]
                    for verdict in worker.examine(schema, 0, 0, valid[author][name])[1]
                ]
                print(
                    f"{engine} accepts {sum(taken)} of {len(taken)} valid documents by {author}", flush=True
                )
            worker.close()
    return records


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", action="append", required=True, help="GGUF file; several times")
    parser.add_argument("--schemas", action="append", required=True, help="JSON, also .xz; several times")
    parser.add_argument("--engines", default=",".join(ENGINES), help="comma-separated")
    parser.add_argument("--documents", type=int, default=2, help="documents of each schema")
    parser.add_argument("--tokens", type=int, default=300, help="longest document")
    parser.add_argument("--cross", action="store_true", help="let each engine read the others' documents")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for a schema")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="file for the results of each schema")
    settings = parser.parse_args(arguments)
    schemas = read_schemas(settings.schemas)
    engines = []
    for name in settings.engines.split(","):
        if installed(name):
            engines.append(name)
        else:
            print(f"{name} is not installed, and left out")
    records = []
    for path in settings.vocabulary:
        print(f"\n{Path(path).name}, {len(schemas)} schemas\n")
        print(
            "| engine | schemas taken | valid documents | setup, s | first p50, ms | p99 "
            "| mask p50, ms | p99 | check p50, ms | p99 | memory, MiB |"
        )
        print("| --- " + "| ---: " * 10 + "|")
        records += compare(path, engines, schemas, settings)
    if settings.json:
        Path(settings.json).write_text(json.dumps(records))


if __name__ == "__main__":
    main()
