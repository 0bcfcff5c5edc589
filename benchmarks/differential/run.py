"""The run itself: replies of both sides, their differences, and the report."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, TextIO

from benchmarks.differential.cases import Case
from benchmarks.differential.comparison import Deliberate, Difference, compare, reason_for
from benchmarks.differential.exchange import LiveServer
from benchmarks.differential.normal_form import normal_form
from benchmarks.differential.recording import Recording, digests

Progress = Callable[[str], None]


@dataclass
class Result:
    """Outcome of a run."""

    equal: int = 0
    meant: list[tuple[Difference, str]] = field(default_factory=list)
    """Deliberate differences, with their reasons."""
    unexpected: list[Difference] = field(default_factory=list)
    cases: int = 0

    def add(self, differences: Iterable[Difference], deliberate: Sequence[Deliberate]) -> None:
        """Add the differences of one case."""
        found = list(differences)
        self.cases += 1
        self.equal += not found
        for difference in found:
            reason = reason_for(difference, deliberate)
            if reason is None:
                self.unexpected.append(difference)
            else:
                self.meant.append((difference, reason))


def record(
    server: LiveServer, cases: Sequence[Case], files: Mapping[str, Path], progress: Progress
) -> Recording:
    """Return the replies of ``server`` to all cases; a request that failed has its error as the reply."""
    replies: dict[str, Any] = {}
    with server.models(files):
        for case in cases:
            progress(f"{server.url} {case.name}")
            try:
                replies[case.name] = normal_form(case, server.ask(case))
            except (OSError, HTTPException) as error:
                replies[case.name] = f"no reply: {type(error).__name__}"
    return Recording(server.url, digests(files), replies)


def judge(reference: Recording, candidate: Recording, deliberate: Sequence[Deliberate]) -> Result:
    """Compare two recordings of the same models. A case that only one of them has is left out."""
    if reference.models != candidate.models:
        raise ValueError("the recordings are of different model files")
    result = Result()
    for name, reply in reference.replies.items():
        if name in candidate.replies:
            result.add(compare(name, reply, candidate.replies[name]), deliberate)
    return result


def report(result: Result, out: TextIO) -> None:
    """Write the unexpected differences, and the numbers of all."""
    for difference in result.unexpected:
        out.write(f"{difference.case}\n  {difference.at}\n")
        out.write(f"    reference: {difference.reference!r}\n    candidate: {difference.candidate!r}\n")
    reasons: dict[str, int] = {}
    for _, reason in result.meant:
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        out.write(f"{count:5} deliberate: {reason}\n")
    out.write(
        f"{result.cases} requests: {result.equal} equal, {len(result.meant)} deliberate differences, "
        f"{len(result.unexpected)} unexpected ones\n"
    )
