"""Edits of configuration files: what they change, and that nothing else changes when they are undone."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_tw.cli.launch.edits import EditError, JsonEdit, TomlEdit, YamlEdit

PATH = Path("file")
JSON = JsonEdit(PATH, {("model",): "ollama/m", ("provider", "ollama", "name"): "Ollama"})
TOML = TomlEdit(
    PATH, {"profiles.ollama-launch": {"model": "m"}, "model_providers.ollama-launch": {"a": 'q"'}}
)
YAML = YamlEdit(
    PATH,
    {"model": "ollama_chat/m:1"},
    {"models": ["- name: m", "  provider: ollama"]},
    head="name: My Config\n",
)


def test_json_keys_are_set_and_restored() -> None:
    original = '{"model": "other", "provider": {"x": {"keep": 1}}, "theme": "dark"}'
    changed = JSON.applied(original)
    assert json.loads(changed) == {
        "model": "ollama/m",
        "provider": {"x": {"keep": 1}, "ollama": {"name": "Ollama"}},
        "theme": "dark",
    }
    document = json.loads(changed)
    document["theme"] = "light"
    document["provider"]["ollama"]["own"] = True
    assert json.loads(JSON.undone(json.dumps(document), original)) == {
        "model": "other",
        "provider": {"x": {"keep": 1}, "ollama": {"own": True}},
        "theme": "light",
    }


def test_a_json_file_that_did_not_exist_becomes_empty() -> None:
    assert json.loads(JSON.applied("")) == {"model": "ollama/m", "provider": {"ollama": {"name": "Ollama"}}}
    assert JSON.undone(JSON.applied(""), "") == ""


def test_json_defaults_are_set_where_they_are_missing() -> None:
    edit = JsonEdit(PATH, {("a",): 1}, {("b", "c"): 2, ("d",): {}})
    assert json.loads(edit.applied('{"b": {"c": 9}}')) == {"a": 1, "b": {"c": 9}, "d": {}}
    assert edit.undone(edit.applied(""), "") == ""


@pytest.mark.parametrize("text", ["{// comment\n}", "[]", '{"provider": "x"}'])
def test_json_that_cannot_be_edited(text: str) -> None:
    with pytest.raises(EditError, match=r"is not|has something other than an object"):
        JSON.applied(text)


@pytest.mark.parametrize(
    "original",
    [
        "",
        '# mine\nmodel = "gpt"\n',
        '[profiles.mine]\nmodel = "x"\n\n[a]\nb = ["[", "]"]\n',
        '[profiles.ollama-launch-2]\nmodel = "x"\n',
    ],
)
def test_toml_sections_are_added_and_removed(original: str) -> None:
    changed = TOML.applied(original)
    assert tomllib.loads(changed)["profiles"]["ollama-launch"] == {"model": "m"}
    assert tomllib.loads(changed)["model_providers"]["ollama-launch"] == {"a": 'q"'}
    assert TOML.applied(changed) == changed
    assert TOML.undone(changed, original) == original
    assert TOML.undone(changed + '\n[later]\nkey = "x"\n', original).endswith('[later]\nkey = "x"\n')


def test_toml_that_is_not_valid() -> None:
    with pytest.raises(EditError, match="is not valid TOML"):
        TOML.applied("model = \n")


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        ("", {"name": "My Config"}),
        ("model: other # why\nverbose: true\n", {"verbose": True}),
        ("models:\n  - name: a\n    provider: x\nrules: []", {"rules": []}),
        ("models:\n# first\n- name: a\n  provider: x\n", {}),
        ("models:   # none\nname: n\n", {"name": "n"}),
        ("models: []\n", {}),
    ],
)
def test_yaml_keys_and_items(original: str, expected: dict[str, Any]) -> None:
    changed = YAML.applied(original)
    document = yaml.safe_load(changed)
    assert document.pop("model") == "ollama_chat/m:1"
    models = document.pop("models")
    assert models[0] == {"name": "m", "provider": "ollama"}
    assert models[1:] == ([{"name": "a", "provider": "x"}] if "- name: a" in original else [])
    assert document == expected
    assert YAML.applied(changed) == changed
    undone = YAML.undone(changed, original)
    assert undone.rstrip("\n") == original.rstrip("\n")


def test_yaml_keeps_what_the_user_added() -> None:
    changed = YAML.applied("verbose: true\n") + "pretty: false\n"
    assert YAML.undone(changed, "verbose: true\n") == "verbose: true\npretty: false\n"


def test_yaml_that_cannot_be_edited() -> None:
    with pytest.raises(EditError, match='has "models" in one line'):
        YAML.applied("models: [{name: a}]\n")
    with pytest.raises(EditError, match="lacks the line"):
        YAML.undone("# ollama launch: begin\nmodel: x\n", "")
