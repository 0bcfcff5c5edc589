"""Detection of named Go templates equivalent to chat templates."""

from pathlib import Path
from typing import Any

from ollama_tw.gguf.reader import Header, read_header
from ollama_tw.library.create.chat_templates import detect_template
from tests.helpers.gguf_files import write_gguf
from tests.templates.known_formats.published import ZEPHYR


def header_with(path: Path, chat_template: str, **metadata: Any) -> Header:
    keys = {f"tokenizer.ggml.{name}": value for name, value in metadata.items()}
    return read_header(write_gguf(path, chat_template=chat_template, metadata=keys, tokens=("<a>", "<z>")))


def test_a_detected_template_has_the_files_own_tokens(tmp_path: Path) -> None:
    found = detect_template(header_with(tmp_path / "m", ZEPHYR, bos_token_id=0, eos_token_id=1))
    assert found is not None
    assert found.name == "zephyr"
    assert "<z>" in found.template
    assert "</s>" not in found.template
    # The id is out of range: the usual token of the format is used.
    found = detect_template(header_with(tmp_path / "n", ZEPHYR, eos_token_id=2))
    assert found is not None
    assert "</s>" in found.template


def test_no_detection_if_only_the_chat_template_writes_bos(tmp_path: Path) -> None:
    chat_template = "{{ bos_token }}" + ZEPHYR
    keys = {"bos_token_id": 0, "eos_token_id": 1}
    assert detect_template(header_with(tmp_path / "m", chat_template, **keys)) is not None
    assert detect_template(header_with(tmp_path / "n", chat_template, **keys, add_bos_token=False)) is None
