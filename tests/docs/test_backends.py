"""The backend in docs/backends.md is discovered and generates text."""

import re
import sys
from pathlib import Path

import pytest

from ollama_tw import plugins
from ollama_tw.engine.backends import discover
from ollama_tw.interfaces import DoneReason, Job, LoadPlan
from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "backends.md").read_text()


def test_the_files_of_the_page_are_a_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for name, source in zip(
        ("ollama_tw/plugins/shout.py", "shout_backend/__init__.py"), blocks, strict=False
    ):
        assert f"`{name}`" in PAGE
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.setattr(plugins, "__path__", [*plugins.__path__, str(tmp_path / "ollama_tw" / "plugins")])
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (shout,) = (one for one in discover() if one.name == "shout")
    assert shout.probe.available
    runner = shout.backend.load(LoadPlan(""), lambda done: True)
    pieces = list(runner.generate(Job("is anybody there")))
    assert [piece.text for piece in pieces] == ["IS ", "ANYBODY ", "THERE ", ""]
    assert pieces[-1].done is DoneReason.STOP
