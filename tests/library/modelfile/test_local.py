"""Local files of a Modelfile."""

import os
import zipfile
from pathlib import Path

import pytest

from ollama_tw.library.modelfile.local import LocalFiles, expand, find_files, load_modelfile
from ollama_tw.library.modelfile.parser import Instruction, ModelfileError, parse_modelfile
from ollama_tw.library.modelfile.recipe import read_recipe

BINARY = b"GGUF\x03\0\0\0"


def put(path: Path, data: bytes = BINARY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def put_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", "x")
    return path


def find(directory: Path, text: str) -> LocalFiles:
    return find_files(read_recipe(parse_modelfile(text)), directory)


def fault(directory: Path, text: str) -> str:
    with pytest.raises(ModelfileError) as caught:
        find(directory, text)
    return str(caught.value)


def test_a_base_that_is_a_model_name(tmp_path: Path) -> None:
    found = find(tmp_path, "FROM llama3:8b\nFROM ./missing.gguf")
    assert found == LocalFiles("./missing.gguf", {}, {}, {})
    assert found.fields({}) == {"from": "./missing.gguf"}
    assert find(tmp_path, f"FROM {'x' * 5000}").base == "x" * 5000


def test_one_file_is_named_by_its_base_name(tmp_path: Path) -> None:
    path = put(tmp_path / "sub" / "m.gguf")
    found = find(tmp_path, "FROM ./sub/m.gguf")
    assert found.files == {"m.gguf": path}
    assert found.base == ""


def test_several_files_are_named_relative_to_their_common_directory(tmp_path: Path) -> None:
    model, projector = put(tmp_path / "a" / "m.gguf"), put(tmp_path / "a" / "b" / "p.gguf")
    adapter, draft = put(tmp_path / "l.gguf"), put(tmp_path / "d.gguf")
    found = find(tmp_path, f"FROM a/m.gguf\nFROM {projector}\nADAPTER a/m.gguf\nADAPTER l.gguf\nDRAFT d.gguf")
    assert found.files == {"m.gguf": model, "b/p.gguf": projector}
    assert found.adapters == {"l.gguf": adapter}
    assert found.draft_files == {"d.gguf": draft}
    assert found.paths() == (model, projector, draft, adapter)
    digests = {model: "sha256:1", projector: "sha256:2", draft: "sha256:3", adapter: "sha256:4"}
    assert found.fields(digests) == {
        "files": {"m.gguf": "sha256:1", "b/p.gguf": "sha256:2"},
        "draft_files": {"d.gguf": "sha256:3"},
        "adapters": {"l.gguf": "sha256:4"},
    }


def test_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    assert fault(tmp_path, "FROM x\nADAPTER a.gguf") == f"stat {path}: no such file or directory"
    assert fault(tmp_path, "FROM x\nDRAFT a.gguf") == f"stat {path}: no such file or directory"


def test_the_draft_must_be_another_file(tmp_path: Path) -> None:
    put(tmp_path / "m.gguf")
    (tmp_path / "link").symlink_to("m.gguf")
    assert fault(tmp_path, "FROM m.gguf\nDRAFT link") == (
        f"DRAFT must not reference the same local path as FROM: {tmp_path / 'link'}"
    )


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand("~", tmp_path) == Path("/home/me")
    assert expand("~/m.gguf", tmp_path) == Path("/home/me/m.gguf")
    assert expand("/m.gguf", tmp_path) == Path("/m.gguf")
    assert expand("\\m.gguf", tmp_path) == Path("\\m.gguf")
    assert expand("../m.gguf", tmp_path) == tmp_path / "../m.gguf"
    with pytest.raises(ModelfileError, match="failed to find user 'no_such_user': "):
        expand("~no_such_user/m.gguf", tmp_path)


def test_a_directory_of_safetensors(tmp_path: Path) -> None:
    names = ["model-1.safetensors", "model-2.safetensors", "vision/model.safetensors", "config.json",
             "vision/config.json", "chat_template.jinja", "tokenizer.model"]  # fmt: skip
    for name in names:
        put(tmp_path / name, b"{}\n" if name.endswith(("json", "jinja")) else BINARY)
    put(tmp_path / "pytorch_model.bin")
    put(tmp_path / "README.md")
    put(tmp_path / "vision" / "tokenizer.model")
    assert list(find(tmp_path, "FROM .").files) == names


def test_the_first_group_of_weights_counts(tmp_path: Path) -> None:
    put(tmp_path / "b.bin")
    assert list(find(tmp_path, "FROM .").files) == ["b.bin"]
    put(tmp_path / "m.gguf")
    assert list(find(tmp_path, "FROM .").files) == ["m.gguf"]
    put(tmp_path / "consolidated.00.pth")
    assert list(find(tmp_path, "FROM .").files) == ["m.gguf"]
    put_zip(tmp_path / "consolidated.00.pth")
    assert list(find(tmp_path, "FROM .").files) == ["consolidated.00.pth"]
    put_zip(tmp_path / "pytorch_model.bin")
    assert list(find(tmp_path, "FROM .").files) == ["pytorch_model.bin"]
    put(tmp_path / "consolidated.safetensors")
    assert list(find(tmp_path, "FROM .").files) == ["consolidated.safetensors"]


def test_a_directory_of_an_adapter(tmp_path: Path) -> None:
    put(tmp_path / "lora" / "adapter_model.safetensors")
    put(tmp_path / "lora" / "adapter_config.json", b"{}")
    found = find(tmp_path, "FROM x\nADAPTER lora")
    assert list(found.adapters) == ["adapter_model.safetensors", "adapter_config.json"]


def test_a_directory_without_weights(tmp_path: Path) -> None:
    put(tmp_path / "m.gguf", b"version https://git-lfs.github.com/spec/v1\n")
    assert fault(tmp_path, "FROM .") == "no Modelfile or safetensors files found"


def test_a_description_must_be_text(tmp_path: Path) -> None:
    put(tmp_path / "m.gguf")
    path = put(tmp_path / "config.json", b"\0\1")
    assert fault(tmp_path, "FROM .") == f"invalid content type: expected text/plain for {path}"


def test_links_out_of_a_directory_are_rejected(tmp_path: Path) -> None:
    put(tmp_path / "secret.json", b"{}")
    put(tmp_path / ".cache" / "blob")
    inside = put(tmp_path / "m" / "weights" / "1")
    (tmp_path / "m" / "model.safetensors").symlink_to("weights/1")
    assert find(tmp_path, "FROM m").files == {"1": inside}
    (tmp_path / "m" / "config.json").symlink_to("../secret.json")
    assert fault(tmp_path, "FROM m") == "insecure path: ../secret.json"
    (tmp_path / "m" / "config.json").unlink()
    (tmp_path / "m" / "model-2.safetensors").symlink_to("../.cache/blob")
    assert fault(tmp_path, "FROM m").startswith("insecure path: ../.cache/blob\n")
    assert "--local-dir" in fault(tmp_path, "FROM m")


def test_a_link_to_a_directory_is_followed(tmp_path: Path) -> None:
    path = put(tmp_path / "real" / "m.gguf")
    (tmp_path / "link").symlink_to("real")
    assert find(tmp_path, "FROM link").files == {"m.gguf": path}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    put(tmp_path / "m.gguf").chmod(0)
    assert fault(tmp_path, "FROM .") == f"open {tmp_path / 'm.gguf'}: permission denied"


def test_load(tmp_path: Path) -> None:
    path = put(tmp_path / "sub" / "Modelfile", b"\xef\xbb\xbfFROM x\n")
    assert load_modelfile(path, working_directory=tmp_path) == (
        (Instruction("model", "x"),),
        tmp_path / "sub",
    )
    missing = tmp_path / "no" / "such"
    assert load_modelfile(missing, working_directory=tmp_path) == ((Instruction("model", "."),), tmp_path)
