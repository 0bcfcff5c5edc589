"""``ollama config``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_tw.cli.commands import config
from ollama_tw.cli.main import main
from ollama_tw.config.settings import VARIABLES
from ollama_tw.configfile import load

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs ``ollama config``: exit status, standard output, standard error."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for module in (load, config):
        monkeypatch.setattr(module, "SYSTEM", tmp_path / "etc.toml")
    (tmp_path / ".ollama").mkdir()

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit:
            main(["config", *arguments])
        assert isinstance(exit.value.code, int)
        output = capsys.readouterr()
        return exit.value.code, output.out, output.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".ollama/ollama.toml"


def test_a_check_without_mistakes(run: Run, file: Path) -> None:
    file.write_text('num_parallel = 2\n[models."m"]\npin = true\n')
    assert run("check") == (0, f"{file}: no mistakes\n", "")


def test_a_check_prints_every_mistake_with_its_line(run: Run, file: Path, tmp_path: Path) -> None:
    text = '[models.m]\n\npin = 1\nparalel = 2\n[aliases]\n"a" = 1\n'
    expected = (
        "{path}:3: pin is not true or false\n"
        '{path}:4: there is no setting "paralel" of models: did you mean parallel?\n'
        '{path}:6: the alias "a" is not followed by the name of a model in quotes\n'
    )
    file.write_text(text)
    assert run("check") == (1, expected.format(path=file), "")
    other = tmp_path / "other.toml"
    other.write_text(text)
    assert run("check", str(other)) == (1, expected.format(path=other), "")


def test_a_check_without_a_file(run: Run, file: Path, tmp_path: Path) -> None:
    code, out, _ = run("check")
    assert (code, out) == (
        0,
        f"there is no configuration file: neither {file} nor {tmp_path / 'etc.toml'} exists\n",
    )
    missing = tmp_path / "missing.toml"
    assert run("check", str(missing)) == (
        1,
        f"{missing}: it cannot be read: no such file or directory\n",
        "",
    )


def test_each_setting_is_shown_with_its_source(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('\nnum_parallel = 2\nmax_queue = 9\n[models."m"]\npin = true\n[aliases]\n"a" = "m"\n')
    monkeypatch.setenv("OLLAMA_MAX_QUEUE", "8")
    monkeypatch.setenv("OLLAMA_CONTEXT_LENGTH", "many")
    code, out, err = run("show")
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
    assert (code, err) == (0, "")
    assert rows["num_parallel"] == f"2 {file}:2"
    assert rows["max_queue"] == "8 environment OLLAMA_MAX_QUEUE"
    assert rows["keep_alive"] == "5m default"
    assert rows["context_length"] == "2048 default, because OLLAMA_CONTEXT_LENGTH is not valid"
    assert rows['models."m:latest".pin'] == f"true {file}:5"
    assert rows['aliases."a"'] == f"m {file}:7"
    assert set(rows) - {"SETTING"} == {
        *(one.name.removeprefix("OLLAMA_").lower() for one in VARIABLES if one.name != "OLLAMA_CONFIG"),
        'models."m:latest".pin',
        'aliases."a"',
    }
    shown = json.loads(run("show", "--json")[1])
    assert shown["file"] == str(file)
    assert {"name": "num_parallel", "value": "2", "from": f"{file}:2"} in shown["settings"]
    assert (shown["models"], shown["aliases"]) == ({"m:latest": {"pin": True}}, {"a": "m"})


def test_settings_of_models_are_shown_as_they_are_written(run: Run, file: Path) -> None:
    file.write_text(
        '[models.m]\ncontext_length = 4096\n\n[models.m.options]\nnum_gpu = 3\nstop = ["a"]\nseed = 1\n'
    )
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in run("show")[1].splitlines()}
    assert rows['models."m:latest".context_length'] == f"4096 {file}:2"
    assert rows['models."m:latest".options.num_gpu'] == f"3 {file}:5"
    assert rows['models."m:latest".options.stop'] == f'["a"] {file}:6'
    assert json.loads(run("show", "--json")[1])["models"] == {
        "m:latest": {"context_length": 4096, "options": {"num_gpu": 3, "stop": ["a"], "seed": 1}}
    }


def test_show_warns_of_mistakes(run: Run, file: Path) -> None:
    file.write_text("x = 1\n")
    code, out, err = run("show")
    assert code == 0
    assert err == f'Warning: {file}:1: there is no setting "x"\n'
    assert "num_parallel" in out


def test_the_help(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    assert all(f"  {name} " in out for name in ("check", "show"))
