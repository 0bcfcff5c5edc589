"""Conversion of tokenizers to the metadata of a GGUF file.

Source: ollama: convert/tokenizer.go, parseTokenizer.
"""

from ollama_tw.convert.files import JsonObject, SourceFiles
from ollama_tw.convert.tokenizers.bpe import read_bpe
from ollama_tw.convert.tokenizers.sentencepiece import read_sentencepiece
from ollama_tw.convert.tokenizers.special import special_tokens
from ollama_tw.convert.tokenizers.vocabulary import TokenizerVocabulary
from ollama_tw.convert.tokenizers.wordpiece import read_vocabulary_text, read_wordpiece
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import Encoded

# Readers by ``model.type`` of tokenizer.json.
_READERS = {"BPE": read_bpe, "WordPiece": read_wordpiece}


def tokenizer_metadata(files: SourceFiles, size: int, *, wordpiece: bool) -> dict[str, Encoded]:
    """Return the tokenizer's keys; the vocabulary is padded to ``size``, that of the embedding.

    ``wordpiece``: whether the model's family uses WordPiece. Raises OllamaError 500
    ``unknown tokenizer format``, also for a tokenizer of the other kind, and 400 for invalid files.
    """
    tokenizer = files.document("tokenizer.json")
    vocabulary = _read(files, tokenizer).padded(size)
    if (vocabulary.model == "bert") is not wordpiece:
        raise OllamaError(500, "unknown tokenizer format")
    return {**vocabulary.metadata(), **special_tokens(files, vocabulary, tokenizer)}


def _read(files: SourceFiles, tokenizer: JsonObject | None) -> TokenizerVocabulary:
    if (data := files.read("tokenizer.model")) is not None:
        return read_sentencepiece(files, data, tokenizer)
    if tokenizer is not None:
        model = tokenizer.section("model")
        if model is not None and (read := _READERS.get(model.text("type", "BPE"))):
            return read(files, tokenizer, model)
    elif (text := files.text("vocab.txt")) is not None:
        return read_vocabulary_text(files, text)
    raise OllamaError(500, "unknown tokenizer format")
