"""Vocabularies of files without their weights."""

from pathlib import Path

import pytest

from ollama_tw.interfaces import LoadError, RunnerError
from ollama_tw.llama.vocabulary_file import FileVocabulary


@pytest.fixture(scope="module")
def vocabulary(smollm2_gguf: str) -> FileVocabulary:
    return FileVocabulary(smollm2_gguf)


def test_text_and_tokens(vocabulary: FileVocabulary) -> None:
    assert list(vocabulary.tokenize("Hello world")) == [19556, 905]
    assert vocabulary.detokenize([19556, 905]) == "Hello world"
    assert vocabulary.detokenize(vocabulary.tokenize("<|im_start|>é")) == "<|im_start|>é"


def test_a_token_outside_the_vocabulary(vocabulary: FileVocabulary) -> None:
    with pytest.raises(RunnerError, match="token 49152 is not in this model's vocabulary of 49152 tokens"):
        vocabulary.detokenize([49152])


def test_an_invalid_file(tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(b"no model")
    with pytest.raises(LoadError, match=r"unable to load model odd\.gguf"):
        FileVocabulary(str(path))
