"""Tokenizers: from the files beside the weights to the metadata of a GGUF file."""

from ollama_tw.convert.files import Document, SourceFiles
from ollama_tw.convert.tokenizers.bpe import read_bpe
from ollama_tw.convert.tokenizers.sentencepiece import read_sentencepiece
from ollama_tw.convert.tokenizers.special import special_tokens
from ollama_tw.convert.tokenizers.vocabulary import Vocabulary
from ollama_tw.convert.tokenizers.wordpiece import read_vocabulary_text, read_wordpiece
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import Encoded

# tokenizer.json's name of the model, and who reads it.
_READERS = {"BPE": read_bpe, "WordPiece": read_wordpiece}


def tokenizer_metadata(files: SourceFiles, size: int, *, words: bool) -> dict[str, Encoded]:
    """The tokenizer, whose vocabulary is padded to the ``size`` of the embedding.

    ``words``: the model is of a family that uses WordPiece; the others must not. Raises OllamaError:
    500 ``unknown tokenizer format``, 400 for what is wrong with the files.
    """
    tokenizer = files.document("tokenizer.json")
    vocabulary = _read(files, tokenizer).padded(size)
    if (vocabulary.model == "bert") is not words:
        raise OllamaError(500, "unknown tokenizer format")
    return {**vocabulary.metadata(), **special_tokens(files, vocabulary, tokenizer)}


def _read(files: SourceFiles, tokenizer: Document | None) -> Vocabulary:
    if (data := files.read("tokenizer.model")) is not None:
        return read_sentencepiece(files, data, tokenizer)
    if tokenizer is not None:
        model = tokenizer.section("model")
        if model is not None and (read := _READERS.get(model.text("type", "BPE"))):
            return read(files, tokenizer, model)
    elif (text := files.text("vocab.txt")) is not None:
        return read_vocabulary_text(files, text)
    raise OllamaError(500, "unknown tokenizer format")
