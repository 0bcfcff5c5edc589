"""The benchmark of grammars: random texts, their figures, and engines that are not installed."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.grammar import Result, Walk, accepts, examine, judge, main, percentile, row
from benchmarks.grammar_engines import ENGINES, Mask, Matcher, Own, Refused
from tests.grammar.checker import write_vocabulary

PIECES = [b"[", b"1", b",", b"]", b""]
END = 4


class Listed:
    """A matcher of the texts ``[1]``, ``[1,1]`` and so on."""

    def __init__(self) -> None:
        self.text = b""

    def mask(self) -> Mask:
        allowed = {b"": [0], b"[": [1], b",": [1], b"1": [2, 3], b"]": [END]}[self.text[-1:]]
        return np.isin(np.arange(len(PIECES)), allowed)

    def accept(self, token: int) -> bool:
        found = bool(self.mask()[token])
        self.text += PIECES[token] if found else b""
        return found


def listed(schema: Mapping[str, Any]) -> Callable[[], Matcher]:
    if schema.get("type") != "array":
        raise Refused("arrays only")
    return Listed


WALK = Walk(PIECES, END, random.Random(1))


def test_texts_of_the_grammar_are_collected() -> None:
    result = examine(listed, WALK, {"type": "array"}, 5, 100)
    assert not result.refused
    assert len(result.documents) == 5
    assert all(set(json.loads(text)) == {1} for text in result.documents)
    assert len(result.masks) == len(result.accepts) + 5


def test_a_text_that_is_too_long_is_unfinished() -> None:
    result = examine(listed, WALK, {"type": "array"}, 1, 2)
    assert (result.documents, result.unfinished) == ([], 1)


def test_a_refused_schema_has_its_reason() -> None:
    assert examine(listed, WALK, {}, 1, 100).refused == "arrays only"


def test_only_complete_texts_are_accepted() -> None:
    assert accepts(Listed(), [0, 1, 2, 1, 3], END)
    assert not accepts(Listed(), [0, 1, 2, 1], END)
    assert not accepts(Listed(), [0, 3], END)


def test_the_validator_leaves_other_documents_alone() -> None:
    assert judge({"type": "integer"}, "1") is True
    assert judge({"type": "integer"}, "1.5") is False
    assert judge({"type": "integer"}, "1]") is False
    assert judge({"$ref": "https://example.com/schema.json"}, "1") is None


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(list(map(float, range(100))), 0.99) == 99.0
    assert percentile([], 0.5) == 0.0


def test_a_row_leaves_refused_schemas_out_of_the_times() -> None:
    taken = Result(first=0.002, masks=[0.001, 0.001], accepts=[0.0001])
    found = row("x", 1.25, 3 * 2**20, [taken, Result(refused="why")], (4, 5))
    assert found == "| x | 1 of 2 | 4 of 5 | 1.2 | 2.00 | 2.00 | 1.00 | 1.00 | 0.10 | 0.10 | 3 |"


def test_an_engine_that_is_not_installed_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.grammar.ENGINES", {**ENGINES, "other": ("no_such_module", Own)})
    monkeypatch.setattr("benchmarks.grammar_engines.ENGINES", {**ENGINES, "other": ("no_such_module", Own)})
    write_vocabulary(tmp_path / "bytes.gguf")
    schemas = {"one": {"enum": ["a", 1]}, "none": {"allOf": [False]}, "wrong": {"type": "text"}}
    (tmp_path / "schemas.json").write_text(json.dumps(schemas))
    arguments = ["--vocabulary", str(tmp_path / "bytes.gguf"), "--schemas", str(tmp_path / "schemas.json")]
    main([*arguments, "--engines", "llama.cpp,other", "--cross", "--json", str(tmp_path / "figures.json")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "other is not installed, and left out"
    assert [line[:33] for line in lines if line.startswith("| llama")] == [
        "| llama.cpp | 1 of 3 | 2 of 2 | 0"
    ]
    assert lines[-1] == "llama.cpp accepts 2 of 2 valid documents by llama.cpp"
    records = json.loads((tmp_path / "figures.json").read_text())
    assert [bool(record["refused"]) for record in records] == [False, True, True]
