"""Mutated files that pass the checks do not end the process of llama.cpp.

A sample for each kind of file; ``python -m tests.security.mutation KIND COUNT`` tries more.
"""

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("the trials fork", allow_module_level=True)

from tests.security.mutation.__main__ import survey


@pytest.mark.parametrize("kind", ["model", "projector", "adapter"])
def test_mutated_files_do_not_end_the_process(kind: str) -> None:
    tally = survey(kind, 210, seed=5)
    assert tally.fatal == []
    # The sample is worth something: files of each outcome are in it.
    assert min(tally.counts[outcome] for outcome in ("ran", "refused", "rejected")) >= 5


@pytest.mark.parametrize("kind", ["model", "projector", "adapter"])
def test_mutated_files_do_not_end_the_server(kind: str) -> None:
    tally = survey(kind, 12, seed=3, server=True)
    assert tally.fatal == []
    assert tally.counts["ran"] + tally.counts["rejected"] > 0
