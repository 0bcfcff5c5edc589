"""No regular expression of the package is slower than linear for any text.

The texts follow each expression (``expressions.py``). They are tried in a child process, which a timer
ends at the first text that takes more than two seconds of processor time; linear ones take milliseconds.
"""

import subprocess
import sys

import pytest

from tests.helpers import ROOT
from tests.security.expressions import expressions, worst_texts

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="needs timers of processor time"),
]

_SIZE = 1 << 17


def tried(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_all_expressions_are_linear() -> None:
    child = tried(f"from tests.security.expressions import main; main({_SIZE})")
    assert child.returncode == 0, f"too slow, or failed: {child.stdout.rpartition(chr(10))[2]} {child.stderr}"
    assert len(child.stdout.splitlines()) == len(list(expressions())) > 100


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"[0-9]+\.?[0-9]*x", "fullmatch"),
        (r"\s*end", "search"),
        (r"(a+)+b", "match"),
        (r"\[[^\]]*\]", "sub"),
        (r"begin.*?end", "finditer"),
        (r"(?:^|,)key=\"(.*?)\"(?=,|$)", "search"),
    ],
)
def test_slow_expressions_are_found(pattern: str, method: str) -> None:
    child = tried(
        "from tests.security.expressions import *\n"
        f"attempt(Expression('m', 1, {pattern!r}, 0, ({method!r},)), {1 << 20})"
    )
    assert child.returncode < 0, "the texts do not show that the expression is slow"


def test_the_texts_follow_the_expression() -> None:
    texts = set(worst_texts("<(?:a|[^b])+>", 0, 4))
    assert {"<<<<", "<aaa", "<aaa\0"} <= texts
