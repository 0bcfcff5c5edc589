"""``ollama keys``, which changes the file that the server reads."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ollama_tw.access.client import Scope
from ollama_tw.access.key_file import read_keys
from ollama_tw.cli.main import main
from ollama_tw.tracking.priority import Priority

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs ``ollama keys``: exit status, standard output, standard error."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit:
            main(["keys", *arguments])
        assert isinstance(exit.value.code, int)
        output = capsys.readouterr()
        return exit.value.code, output.out, output.err

    return run


def test_the_secret_of_a_new_key_is_printed_once(run: Run, tmp_path: Path) -> None:
    code, out, err = run("add", "alice")
    assert code == 0
    assert re.fullmatch(r"otw-[A-Za-z0-9_-]{43}\n", out)
    assert err == 'This is the secret of the key "alice". It is not stored and not shown again.\n'
    [key] = read_keys(tmp_path / ".ollama/keys.json")
    assert key.matches(out.strip().encode())
    assert key.client.scopes == {Scope.INFERENCE}
    assert key.expires is None
    _, out, _ = run("list")
    assert "otw-" not in out


def test_all_options(run: Run, tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    code, out, _ = run(
        *("add", "bob", "--scope", "manage", "--scope=metrics", "--expires", "30d", "--json"),
        *("--concurrent", "3", "--tokens-per-minute", "5000", "--priority", "low"),
    )
    shown = json.loads(out)
    [key] = read_keys(tmp_path / ".ollama/keys.json")
    assert code == 0
    assert key.matches(shown["secret"].encode())
    client = key.client
    assert client.scopes == {Scope.MANAGE, Scope.METRICS}
    assert (client.concurrent, client.tokens_per_minute, client.priority) == (3, 5000, Priority.LOW)
    assert key.expires is not None
    assert before + timedelta(days=30) <= key.expires <= datetime.now(UTC) + timedelta(days=30)
    listed = json.loads(run("list", "--json")[1])["keys"]
    assert listed == [{name: value for name, value in shown.items() if name != "secret"}]


def test_the_keys_are_beside_the_models_of_the_server(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "data/models"))
    assert run("add", "alice")[0] == 0
    assert [key.client.name for key in read_keys(tmp_path / "data/keys.json")] == ["alice"]


def test_the_list(run: Run) -> None:
    assert run("list") == (
        0,
        "NAME    SCOPES    PRIORITY    CONCURRENT    TOKENS/MIN    CREATED    EXPIRES    \n",
        "",
    )
    run("add", "alice", "--scope", "admin", "--concurrent", "2", "--expires", "2999-01-31")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    header, line = run("list")[1].splitlines()
    assert header.split() == ["NAME", "SCOPES", "PRIORITY", "CONCURRENT", "TOKENS/MIN", "CREATED", "EXPIRES"]
    assert line.split() == ["alice", "admin", "normal", "2", "-", today, "2999-01-31", "00:00"]


def test_keys_are_removed(run: Run, tmp_path: Path) -> None:
    run("add", "alice")
    run("add", "bob")
    assert run("remove", "alice") == (0, "removed key 'alice'\n", "")
    code, out, err = run("remove", "bob")
    assert (code, out) == (0, "removed key 'bob'\n")
    assert err == "Warning: no key is left, so the server answers requests without one\n"
    assert read_keys(tmp_path / ".ollama/keys.json") == ()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["add"], "accepts 1 arg(s), received 0"),
        (["add", "a b"], 'the name "a b" is not valid: give 1 to 64 letters'),
        (["add", "a", "--scope", "all"], "'all' is not one of 'inference', 'manage', 'metrics', 'admin'"),
        (["add", "a", "--expires", "soon"], "--expires soon: give a time such as 30d, 12h or 4w, or a date"),
        (["add", "a", "--expires", "0d"], "--expires 0d: give a time such as"),
        (["add", "a", "--expires", "999999w"], "--expires 999999w: give a time such as"),
        (["add", "a", "--expires", "2020-01-01"], "--expires 2020-01-01: this is in the past"),
        (["add", "a", "--concurrent", "0"], "0 is not in the range x>=1"),
        (["remove", "a"], 'there is no key "a"'),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_mistakes(run: Run, arguments: list[str], error: str, tmp_path: Path) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert error in err
    assert not (tmp_path / ".ollama/keys.json").exists()


def test_a_name_is_given_once(run: Run) -> None:
    run("add", "alice")
    assert run("add", "alice") == (1, "", 'Error: there is a key "alice" already: remove it first\n')


def test_a_file_that_is_damaged(run: Run, tmp_path: Path) -> None:
    path = tmp_path / ".ollama/keys.json"
    path.parent.mkdir()
    path.write_text("{")
    for arguments in (["list"], ["add", "a"], ["remove", "a"]):
        code, _, err = run(*arguments)
        assert code == 1
        assert err.startswith(f"Error: {path} is not a valid file of keys: ")


def test_the_help(run: Run) -> None:
    for arguments in ([], ["--help"]):
        code, out, _ = run(*arguments)
        assert code == 0
        assert all(f"  {name} " in out for name in ("add", "list", "remove"))
