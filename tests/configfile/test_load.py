from pathlib import Path

import pytest

from ollama_tw.config.declaration import SettingsError
from ollama_tw.configfile import load
from ollama_tw.configfile.load import find_file, read_configuration, read_file


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return an environment with a home of its own; the system's file is in ``etc`` there."""
    monkeypatch.setattr(load, "SYSTEM", tmp_path / "etc/ollama.toml")
    (tmp_path / "etc").mkdir()
    (tmp_path / ".ollama").mkdir()
    return {"HOME": str(tmp_path)}


def ignore(text: str) -> None:
    raise AssertionError(text)


def test_which_file_is_read(environ: dict[str, str], tmp_path: Path) -> None:
    assert find_file(environ) is None
    system = tmp_path / "etc/ollama.toml"
    system.touch()
    assert find_file(environ) == system
    beside = tmp_path / ".ollama/ollama.toml"
    beside.touch()
    assert find_file(environ) == beside
    (tmp_path / "data").mkdir()
    moved = tmp_path / "data/ollama.toml"
    moved.touch()
    assert find_file({**environ, "OLLAMA_MODELS": str(tmp_path / "data/models")}) == moved
    assert find_file({**environ, "OLLAMA_CONFIG": "~/x.toml"}) == tmp_path / "x.toml"


def test_a_file_that_cannot_be_examined_is_a_mistake(environ: dict[str, str], tmp_path: Path) -> None:
    """A link to itself is an example of a file that cannot be examined."""
    path = tmp_path / ".ollama/ollama.toml"
    path.symlink_to(path)
    assert find_file(environ) == path
    (mistake,) = read_file(path).mistakes
    assert mistake.text == "it cannot be read: too many levels of symbolic links"


def test_environment_variables_win(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".ollama/ollama.toml").write_text("num_parallel = 3\nmax_queue = 7\n")
    settings = read_configuration(
        {**environ, "OLLAMA_NUM_PARALLEL": "2", "OLLAMA_MAX_QUEUE": ""}, ignore
    ).settings
    assert (settings.num_parallel, settings.max_queue) == (2, 7)


def test_origins_in_the_file_count_as_set(environ: dict[str, str], tmp_path: Path) -> None:
    assert not read_configuration(environ, ignore).settings.origins_listed
    (tmp_path / ".ollama/ollama.toml").write_text('origins = ["https://a.example"]\n')
    settings = read_configuration(environ, ignore).settings
    assert settings.origins_listed
    assert settings.origins[0] == "https://a.example"


def test_the_keys_are_beside_the_file_that_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".ollama/ollama.toml").touch()
    assert read_configuration(environ, ignore).settings.keys_file == tmp_path / ".ollama/keys.json"
    named = {**environ, "OLLAMA_CONFIG": str(tmp_path / "etc/ollama.toml")}
    (tmp_path / "etc/ollama.toml").touch()
    assert read_configuration(named, ignore).settings.keys_file == tmp_path / "etc/keys.json"


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (b"debug = true\n\xff", ":2: this is not UTF-8"),
        (b"#" * (1 << 20) + b"#", ": it is larger than 1048576 bytes"),
        (b"x = 1\n", ':1: there is no setting "x"'),
    ],
)
def test_files_with_mistakes(environ: dict[str, str], tmp_path: Path, content: bytes, mistake: str) -> None:
    path = tmp_path / ".ollama/ollama.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        read_configuration(environ, ignore)
    assert str(refused.value) == f"{path}{mistake}"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    [mistake] = read_file(tmp_path).mistakes
    assert (mistake.line, mistake.text) == (0, "it cannot be read: is a directory")
