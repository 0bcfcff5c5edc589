"""``ollama import``: links, copies, names, and what belongs together."""

import json
from pathlib import Path

import pytest

from ollama_tw.cli.command import UsageError
from ollama_tw.cli.model_files import find_models, model_name
from tests.cli.conftest import Ollama, Result
from tests.helpers.gguf_files import METADATA, write_gguf
from tests.helpers.server import Server


def gguf(path: Path) -> Path:
    """Write a model that no other test has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_gguf(path, metadata={**METADATA, "general.basename": path.as_posix()})


def blobs(server: Server) -> dict[int, Path]:
    """Return the blobs of a server by their inodes."""
    return {path.stat().st_ino: path for path in (server.home / ".ollama/models/blobs").iterdir()}


def test_a_file_on_the_disk_of_the_models_is_linked(scripted: Server, ollama: Ollama, tmp_path: Path) -> None:
    file = gguf(tmp_path / "Linked-1B-Instruct-Q4_K_M.gguf")
    result = ollama("import", str(file), OLLAMA_MODELS=str(scripted.home / ".ollama/models"))
    assert result == Result(0, "imported 'linked-1b-instruct:q4_k_m' (linked)\n", "")
    assert file.stat().st_ino in blobs(scripted)
    assert ollama("run", "linked-1b-instruct:q4_k_m", "SAY hi").out == "hi\n\n"
    again = ollama("import", str(file), OLLAMA_MODELS=str(scripted.home / ".ollama/models"))
    assert again == Result(0, "imported 'linked-1b-instruct:q4_k_m' (files already present)\n", "")


def test_a_file_is_copied_where_it_cannot_be_linked(scripted: Server, ollama: Ollama, tmp_path: Path) -> None:
    other_folder = tmp_path / "elsewhere"
    (other_folder / "blobs").mkdir(parents=True)
    file = gguf(tmp_path / "copied.gguf")
    result = ollama("import", "--name", "me/mine:1", str(file), OLLAMA_MODELS=str(other_folder))
    assert result == Result(0, "imported 'me/mine:1' (copied)\n", "")
    assert file.stat().st_ino not in blobs(scripted)
    assert list((other_folder / "blobs").iterdir()) == []
    second = gguf(tmp_path / "second.gguf")
    models = str(scripted.home / ".ollama/models")
    assert ollama("import", "--copy", str(second), OLLAMA_MODELS=models).out == "imported 'second' (copied)\n"
    assert second.stat().st_ino not in blobs(scripted)


def test_a_folder_is_imported_except_for_damaged_files(ollama: Ollama, tmp_path: Path) -> None:
    gguf(tmp_path / "all/a/One-F16.gguf")
    gguf(tmp_path / "all/b/Two.gguf")
    damaged = tmp_path / "all/b/broken.gguf"
    damaged.write_bytes(b"GGUF")
    result = ollama("import", "all")
    assert result.code == 1
    assert result.out == "imported 'one:f16' (copied)\nimported 'two' (copied)\n"
    assert result.err.startswith("Error: all/b/broken.gguf: ")
    assert result.err.count("\n") == 1
    names = {model["name"] for model in json.loads(ollama("list", "--json").out)["models"]}
    assert {"one:f16", "two:latest"} <= names


def test_another_model_of_the_name_is_not_replaced(ollama: Ollama, tmp_path: Path) -> None:
    assert ollama("import", str(gguf(tmp_path / "x/taken.gguf"))).code == 0
    assert ollama("import", str(gguf(tmp_path / "y/taken.gguf"))) == Result(
        1, "", "Error: there is another model 'taken': remove it, or import this one with --name\n"
    )


STORE = (
    "is the models directory of a server: copy what is in it into that of this one "
    "(OLLAMA_MODELS, ~/.ollama/models), which may be running"
)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["missing.gguf"], "no such file or directory: missing.gguf"),
        (["empty"], "no GGUF and no safetensors files in empty"),
        (["x.gguf", "--name", "a b"], "invalid model name: a b"),
        (["x.gguf", "y.gguf", "--name", "n"], "--name is for one model, and 2 were found"),
        (["store"], f"store {STORE}"),
        (["home"], f"{Path('home/models')} {STORE}"),
        (["notes.txt"], "notes.txt is not a GGUF file"),
        ([], "requires at least 1 arg(s), only received 0"),
        (["mmproj-x.gguf"], "a projector (mmproj) is not a model of its own: name the model file, too"),
    ],
)
def test_invalid_arguments(ollama: Ollama, tmp_path: Path, arguments: list[str], error: str) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("store/blobs", "store/manifests", "home/models/blobs", "home/models/manifests"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("x.gguf", "y.gguf", "mmproj-x.gguf"):
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").write_text("notes")
    assert ollama("import", *arguments) == Result(1, "", f"Error: {error}\n")


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M", "llama-3.2-1b-instruct:q4_k_m"),
        ("gemma-3-270m-it-UD-Q4_K_XL", "gemma-3-270m-it:ud-q4_k_xl"),
        ("gpt-oss-20b-MXFP4", "gpt-oss-20b:mxfp4"),
        ("model.BF16", "model:bf16"),
        ("big-IQ2_XXS-00001-of-00003", "big:iq2_xxs"),
        ("My model (1)", "my-model-1"),
        ("Q4", "q4"),
        ("---", "model"),
    ],
)
def test_the_name_is_that_of_the_file(stem: str, name: str) -> None:
    assert model_name(stem) == name


def test_shards_and_projectors_belong_to_their_model(tmp_path: Path) -> None:
    names = [f"m-{number:05}-of-00002.gguf" for number in (1, 2)]
    for name in (*names, "mmproj-m-BF16.gguf", "mmproj-m-F16.gguf", "other/alone.gguf"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    first, second = find_models([tmp_path])
    assert [path.name for path in first.files] == [*names, "mmproj-m-F16.gguf"]
    assert (second.name, [path.name for path in second.files]) == ("alone", ["alone.gguf"])
    assert [path.name for path in find_models([tmp_path / names[1]])[0].files] == names
    (tmp_path / names[1]).unlink()
    with pytest.raises(UsageError, match=f"the model has 2 files, of which one is missing: .*{names[1]}"):
        find_models([tmp_path / names[0]])


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.gguf").touch()
    with pytest.raises(UsageError, match="would both be named 'same'"):
        find_models([tmp_path])


def test_pull_and_run_take_a_path(ollama: Ollama, tmp_path: Path) -> None:
    gguf(tmp_path / "Pulled-Q8_0.gguf")
    assert ollama("pull", "./Pulled-Q8_0.gguf") == Result(0, "imported 'pulled:q8_0' (copied)\n", "")
    assert ollama("run", "Pulled-Q8_0.gguf", "SAY hi").out == "hi\n\n"
    gguf(tmp_path / "folder/A.gguf")
    gguf(tmp_path / "folder/B.gguf")
    assert ollama("pull", "./folder").out == "imported 'a' (copied)\nimported 'b' (copied)\n"
    records = [json.loads(line) for line in ollama("pull", "./folder", "--json").out.splitlines()]
    assert records[-1] == {"status": "success"}
    assert ollama("run", "./folder", "hi").err == "Error: folder has 2 models: name the file of one\n"
    assert ollama("pull", "./nothing").err == "Error: no such file or directory: nothing\n"
    assert ollama("pull", "~nobody-here/x").err == "Error: no such file or directory: ~nobody-here/x\n"
