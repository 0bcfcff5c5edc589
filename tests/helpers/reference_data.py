"""Results of other implementations, in ``tests/data``; its README names their origins."""

import functools
import json
import lzma
from typing import Any

from tests.helpers import ROOT

DATA = ROOT / "tests/data"


def read_json(name: str) -> Any:
    """Return the contents of ``tests/data/NAME.json.xz``."""
    return json.loads(lzma.decompress((DATA / f"{name}.json.xz").read_bytes()))


def vectors(kind: str) -> list[dict[str, Any]]:
    """Return the cases of ``tests/data/vectors/KIND.jsonl.xz``: name, case and expected result."""
    lines = lzma.decompress((DATA / f"vectors/{kind}.jsonl.xz").read_bytes()).splitlines()
    return [json.loads(line) for line in lines]


@functools.cache
def chat_templates() -> dict[str, str]:
    """Return the chat templates of model families by their names."""
    return {row["name"]: row["source"] for row in vectors("chat_templates")}
