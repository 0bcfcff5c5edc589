"""Discovery of plugin modules; a broken third-party module does not prevent the start."""

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from ollama_tw import plugins
from ollama_tw.engine.backends import choose, discover, installed, probed, refresh
from tests.helpers import PATIENCE

HANGING = "import threading; threading.Event().wait(20)"

GOOD = """
    from twisted.plugin import IPlugin
    from zope.interface import implementer
    from ollama_tw.interfaces import Device, IBackend, Probe

    @implementer(IPlugin, IBackend)
    class Good:
        name = "good"
        priority = 1000
        version = "7.1"
        free = 0

        def probe(self):
            self.free += 1
            return Probe((Device("D", "a device", "accel", self.free, 20),))

        def load(self, plan, progress):
            raise AssertionError

    backend = Good()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(plugins, "__path__", [str(tmp_path)])
    yield tmp_path
    # No others: a native library's callbacks must outlive this test.
    for name, module in list(sys.modules.items()):
        if tmp_path in Path(getattr(module, "__file__", None) or "/").parents:
            del sys.modules[name]


def write(folder: Path, name: str, source: str) -> str:
    file = folder / f"{name}.py"
    file.write_text(dedent(source))
    return str(file)


def test_built_in_backends_are_ordered_by_priority() -> None:
    found = discover()
    assert [one.name for one in found if one.name in ("cuda", "metal", "cpu")] == ["cuda", "metal", "cpu"]
    assert all(one.version == "0.6.0" for one in found if one.name == "cpu")


def test_a_third_party_plugin(folder: Path) -> None:
    file = write(folder, "one", GOOD)
    (one,) = discover()
    assert (one.name, one.version, one.file, one.probe.devices[0].free) == ("good", "7.1", file, 1)
    assert choose([one]) is one
    assert refresh(one, PATIENCE).probe.devices[0].free == 2


def test_an_uninstalled_plugin_is_not_found(folder: Path) -> None:
    file = write(folder, "one", GOOD)
    assert [one.name for one in discover()] == ["good"]
    Path(file).unlink()
    assert discover() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_module_that_is_missing", "import failed: ModuleNotFoundError: No module named"),
        ("def (", "import failed: SyntaxError: invalid syntax"),
        ("raise SystemExit(1)", "import failed: SystemExit: 1"),
        (HANGING, "import failed: TimeoutError: no result within"),
    ],
)
def test_a_broken_module_is_listed_as_unavailable(folder: Path, source: str, reason: str) -> None:
    file = write(folder, "broken", source)
    write(folder, "one", GOOD)
    # The module that hangs takes 20 seconds, the good one less than the limit on a busy machine too.
    good, broken = discover(timeout=10 if source == HANGING else PATIENCE)
    assert (good.name, good.probe.available) == ("good", True)
    assert (broken.name, broken.file, broken.probe.available) == ("broken", file, False)
    assert broken.probe.reason.startswith(reason)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("self.free += 1", "raise OSError('no driver')", "probe failed: OSError: no driver"),
        ("self.free += 1", "return None", "probe() returned NoneType instead of Probe"),
        ("self.free += 1", HANGING, "probe failed: TimeoutError: "),
        ("def probe", "def prob", "IBackend is not provided: "),
        ("self, plan, progress", "self, plan", "IBackend is not provided: "),
    ],
)
def test_a_broken_backend_has_a_reason(folder: Path, old: str, new: str, reason: str) -> None:
    write(folder, "one", GOOD.replace(old, new))
    (one,) = [probed(found, 1 if new == HANGING else PATIENCE) for found in installed(PATIENCE)]
    assert one.probe.reason.startswith(reason)
    assert refresh(one) is one


def test_a_later_probe_that_hangs_times_out(folder: Path) -> None:
    later = "self.free += 1\n            import threading; threading.Event().wait(20 * (self.free - 1))"
    write(folder, "one", GOOD.replace("self.free += 1", later))
    (one,) = discover(timeout=PATIENCE)
    assert one.probe.available
    now = refresh(one, timeout=0.05)
    assert now.probe.reason == "probe failed: TimeoutError: no result within 0.05 seconds"


def test_an_invalid_priority_counts_as_zero(folder: Path) -> None:
    write(folder, "one", GOOD)
    write(folder, "two", GOOD.replace("1000", "'high'").replace('"good"', '"odd"'))
    assert [one.name for one in discover()] == ["good", "odd"]
