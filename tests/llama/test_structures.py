"""Fields of llama.cpp's structures that the installed library lacks are reported before they are set."""

import ast
import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from llama_cpp import mtmd_cpp

from ollama_tw import llama
from ollama_tw.engine.backends import DiscoveredBackend, NoBackend, choose
from ollama_tw.interfaces import LoadError, LoadPlan
from ollama_tw.llama import discovery
from ollama_tw.llama.structures import FIELDS, incompatibility, set_fields
from ollama_tw.plugins.cpu import backend


def without(kind: Any, *names: str) -> Any:
    """Return a structure like ``kind`` that lacks the fields ``names``, as another release might have it."""
    fields = [field for field in kind._fields_ if field[0] not in names]
    return type(kind.__name__, (ctypes.Structure,), {"_fields_": fields})


def modules() -> list[ast.Module]:
    """Return the syntax trees of the package that sets the fields."""
    return [ast.parse(path.read_text()) for path in Path(llama.__path__[0]).glob("*.py")]


def named(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@pytest.fixture(autouse=True)
def _lists_devices_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a server in this process has begun: the backend would ask its child process."""
    monkeypatch.setattr(discovery, "_enumeration", None)


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(llama_cpp, "__version__", "9.9.9")
    return "the installed llama-cpp-python 9.9.9 is not supported: "


def test_the_installed_library_has_every_field() -> None:
    assert incompatibility() == ""
    assert backend.probe().available


@pytest.mark.parametrize(
    ("structure", "name"), [(kind, name) for kind, names in FIELDS.items() for name in sorted(names)]
)
def test_a_missing_field_makes_the_backend_unavailable(
    monkeypatch: pytest.MonkeyPatch, release: str, structure: str, name: str
) -> None:
    module = mtmd_cpp if structure.startswith("mtmd") else llama_cpp
    monkeypatch.setattr(module, structure, without(getattr(module, structure), name))
    probe = backend.probe()
    assert probe.reason == f"{release}{structure} has no field {name}"
    with pytest.raises(NoBackend, match=f"cpu: {release}{structure} has no field {name}"):
        choose([DiscoveredBackend(backend, probe)])


def test_all_faults_are_named(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    monkeypatch.setattr(llama_cpp, "llama_logit_bias", without(llama_cpp.llama_logit_bias, "bias", "token"))
    monkeypatch.delattr(llama_cpp, "llama_model_params")
    assert incompatibility() == (
        f"{release}llama_logit_bias has no field bias, token; it has no structure llama_model_params"
    )


def test_a_field_is_set() -> None:
    bias = set_fields(llama_cpp.llama_logit_bias(), token=7, bias=0.5)
    assert (bias.token, bias.bias) == (7, 0.5)


def test_an_unlisted_field_is_refused() -> None:
    params = llama_cpp.llama_model_default_params()
    with pytest.raises(KeyError, match="n_gpu_layer: not in FIELDS of llama_model_params"):
        set_fields(params, n_gpu_layer=1)
    assert not hasattr(params, "n_gpu_layer")


def test_a_load_fails_with_the_reason(
    smollm2_gguf: str, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    older = without(llama_cpp.llama_model_params, "load_mode")
    monkeypatch.setattr(llama_cpp, "llama_model_default_params", older)
    with pytest.raises(LoadError) as caught:
        backend.load(LoadPlan(smollm2_gguf), lambda done: True)
    assert str(caught.value) == f"{release}llama_model_params has no field load_mode"


def test_the_table_lists_what_is_set_and_nothing_else() -> None:
    calls = [node for tree in modules() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = {keyword.arg for call in calls if named(call.func) == "set_fields" for keyword in call.keywords}
    assert found == frozenset().union(*FIELDS.values())
    assert not [call for call in calls if named(call.func) in FIELDS and (call.args or call.keywords)]


def test_no_field_is_set_without_the_check() -> None:
    everything = frozenset().union(*FIELDS.values())
    targets = [
        target
        for tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and named(target.value) != "self"
    ]
    assert [ast.unparse(target) for target in targets if target.attr in everything] == []
