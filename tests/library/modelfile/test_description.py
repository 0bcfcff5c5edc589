"""Round trip of models through the Modelfile that describes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_tw.library.create import create
from ollama_tw.library.manifests import manifest_path
from ollama_tw.library.modelfile.description import modelfile_text
from ollama_tw.library.modelfile.local import find_files
from ollama_tw.library.modelfile.parser import parse_modelfile
from ollama_tw.library.modelfile.recipe import read_recipe
from ollama_tw.library.names import parse_name
from ollama_tw.library.store import Store
from ollama_tw.wire.models import CreateRequest
from tests.helpers.gguf_files import write_gguf, write_lora
from tests.llama.tiny_vision import write_projector

KINDS = ("model", "projector", "adapter", "template", "system", "license", "params", "messages")


class ModelfileHarness:
    """Store with models from uploaded files and from Modelfiles."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.store = Store(root / "models", prune=True)
        self.store.open()

    def upload(self, write: Callable[[Path], Path] = write_gguf) -> str:
        return self.store.blobs.put(write(self._root / "upload").read_bytes())[0]

    def make(self, name: str, **fields: Any) -> None:
        fields = {"files": {"m.gguf": self.upload()}, **fields}
        list(create(self.store, msgspec.convert({"model": name, **fields}, type=CreateRequest)))

    def make_of(self, name: str, modelfile: str) -> None:
        """Create a model as the command line does; the digests are those in the names of the blobs."""
        recipe = read_recipe(parse_modelfile(modelfile))
        files = find_files(recipe, self._root)
        digests = {path: path.name.replace("-", ":") for path in files.paths()}
        self.make(name, **{"files": None, **recipe.fields(), **files.fields(digests)})

    def describe(self, name: str) -> str:
        return modelfile_text(self.store.load(parse_name(name)))

    def layers(self, name: str) -> dict[str, list[str]]:
        """Return the digests of the model's layers by media type."""
        manifest = json.loads(manifest_path(self.store.root, parse_name(name)).read_bytes())
        found: dict[str, list[str]] = {}
        for layer in manifest["layers"]:
            found.setdefault(layer["mediaType"].rpartition(".")[2], []).append(layer["digest"])
        return found

    def config(self, name: str) -> dict[str, Any]:
        manifest = json.loads(manifest_path(self.store.root, parse_name(name)).read_bytes())
        config: dict[str, Any] = json.loads(self.store.blobs.read(manifest["config"]["digest"]))
        return config


@pytest.fixture
def harness(tmp_path: Path) -> ModelfileHarness:
    return ModelfileHarness(tmp_path)


def assert_made_again(harness: ModelfileHarness, name: str) -> None:
    text = harness.describe(name)
    harness.make_of("again", text)
    assert harness.layers("again") == harness.layers(name)
    assert harness.config("again") == harness.config(name)
    assert harness.describe("again").replace("FROM again:latest", f"FROM {name}:latest") == text


def test_a_model_with_all_instructions(harness: ModelfileHarness) -> None:
    projector = harness.upload(write_projector)
    adapter = harness.upload(write_lora)
    harness.make(
        "m",
        files={"m.gguf": harness.upload(), "p.gguf": projector},
        adapters={"a.gguf": adapter},
        template='{{ range .Messages }}"""{{ .Role }}"{{ end }}\n"{{ .Prompt }}"',
        system='"Be kind", said she.',
        renderer="qwen3",
        parser="qwen3",
        license=["MIT", ' "two"\n\n"lines"', "\tindented"],
        parameters={
            "stop": ["<|a|>", " b ", '"', "\n", ""], "num_ctx": 1048576, "seed": -1, "temperature": 0.7,
            "top_p": 1, "min_p": 0.00001, "use_mmap": False,
        },
        messages=[
            {"role": "system", "content": "user: hi"},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": '"\r\n\t"'},
        ],
    )  # fmt: skip
    assert sorted(harness.layers("m")) == sorted(KINDS)
    assert len(harness.layers("m")["license"]) == 3
    assert_made_again(harness, "m")


@pytest.mark.parametrize(
    "text",
    [
        '"quoted"',
        '"quoted" and more',
        '"""',
        'a"""',
        'one\n"""two"',
        "\ttab",
        "tab\t",
        "carriage\rreturn",
        "\n",
        "  ",
        'ends in a quote\n"',
        "# no comment",
        "FROM nowhere",
        "a\nFROM nowhere\nb",
        "漢字 é 👍",
    ],
)
def test_texts(harness: ModelfileHarness, text: str) -> None:
    harness.make(
        "m", template=text, system=text, license=[text], messages=[{"role": "user", "content": text}]
    )
    assert_made_again(harness, "m")


def test_a_model_without_a_template_gets_the_default_one(harness: ModelfileHarness) -> None:
    harness.make("m", system="Be kind.")
    harness.make_of("again", harness.describe("m"))
    template = harness.layers("again").pop("template")
    assert [harness.store.blobs.read(digest) for digest in template] == [b"{{ .Prompt }}"]
    assert harness.layers("again") == {**harness.layers("m"), "template": template}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.sampled_from('ab "\n\r\t#é'), min_size=1, max_size=8).filter(lambda text: '"""' not in text)
)
def test_any_text_without_triple_quotes(harness: ModelfileHarness, text: str) -> None:
    harness.make("m", template="x", system=text, parameters={"stop": [text, text]})
    harness.make_of("again", harness.describe("m"))
    assert harness.layers("again") == harness.layers("m")
