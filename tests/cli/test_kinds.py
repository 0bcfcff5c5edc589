"""Models of every kind, created from local files and run: safetensors, adapters, vision, embeddings."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Ollama, Open, Result, runner
from tests.cli.conversing import at_prompt, say
from tests.convert.sets import byte_level_tokenizer, decoder_weights, write_safetensors, write_set
from tests.convert.test_adapter import CONFIG, RANK, peft
from tests.helpers.server import Server, running
from tests.llama.test_vision import image
from tests.llama.tiny_vision import write_projector, write_text_model

SHORT = "PARAMETER temperature 0\nPARAMETER num_predict 8\nPARAMETER num_ctx 512\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("kinds"), OLLAMA_LLM_LIBRARY="cpu") as server:
        yield server


@pytest.fixture
def ollama(server: Server, tmp_path: Path) -> Ollama:
    return runner(tmp_path, server.url)


def test_a_folder_of_safetensors_and_an_adapter(ollama: Ollama, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    settings = {"config.json": CONFIG, "tokenizer.json": byte_level_tokenizer()}
    write_set(folder, settings, decoder_weights(CONFIG))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 40}))
    write_safetensors(adapter / "adapter_model.safetensors", peft())
    (tmp_path / "Modelfile").write_text(f"FROM ./base\n{SHORT}")
    assert ollama("create", "base") == Result(0, "", "")
    (tmp_path / "Modelfile").write_text(f"FROM base\nADAPTER ./adapter\n{SHORT}")
    assert ollama("create", "adapted") == Result(0, "", "")
    assert "\nADAPTER " in ollama("show", "adapted", "--modelfile").out
    plain, adapted = (ollama("run", name, "Hello") for name in ("base", "adapted"))
    assert (plain.code, adapted.code) == (0, 0)
    assert plain.out.strip()
    assert plain.out != adapted.out


def test_pictures(ollama: Ollama, server: Server, open_terminal: Open, tmp_path: Path) -> None:
    write_text_model(tmp_path / "model.gguf", chat_template="{{ messages[-1].content }}")
    write_projector(tmp_path / "projector.gguf")
    (tmp_path / "Modelfile").write_text(f"FROM ./model.gguf\nFROM ./projector.gguf\n{SHORT}")
    assert ollama("create", "seeing") == Result(0, "", "")
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(image(number))
    one, two = (ollama("run", "seeing", f"what is ./{number}.png") for number in (1, 2))
    assert (one.code, one.err) == (0, "Added image '1.png'\n")
    assert one.out.strip()
    assert one.out != two.out
    (tmp_path / "3.png").write_text("no picture")
    error = "Error: invalid image type: '3.png' is neither JPEG, PNG, WebP nor WAV\n"
    assert ollama("run", "seeing", "what is ./3.png") == Result(1, "", error)
    session = open_terminal("run", "seeing", "--plain", OLLAMA_HOST=server.url)
    at_prompt(session)
    say(session, "what is ./1.png", f"Added image '1.png'\n{one.out.strip()}")


def test_embeddings(ollama: Ollama, minilm_files: dict[str, Path], tmp_path: Path) -> None:
    for name, path in minilm_files.items():
        target = tmp_path / "minilm" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (tmp_path / "Modelfile").write_text("FROM ./minilm\n")
    assert ollama("create", "minilm") == Result(0, "", "")
    vector = json.loads(ollama("run", "minilm", "a text").out)
    assert len(vector) == 384
    assert math.isclose(math.hypot(*vector), 1, rel_tol=1e-5)
    assert json.loads(ollama("run", "minilm", stdin="a text").out) == vector
    assert len(json.loads(ollama("run", "minilm", "--dimensions", "8", "a text").out)) == 8
    assert json.loads(ollama("run", "minilm", "--json", "a text").out)["embeddings"] == [vector]
    usage = 'embedding models require input text. Usage: ollama run minilm "your text here"'
    assert ollama("run", "minilm") == Result(1, "", f"Error: {usage}\n")
    too_long = ollama("run", "minilm", "--truncate=false", "word " * 2000)
    assert (too_long.code, too_long.err.count("\n")) == (1, 1)
