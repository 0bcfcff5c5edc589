"""Tokenizer conversion: llama.cpp tokenizes texts as the original tokenizer does."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.convert import convert_model
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import Header, read_header
from ollama_tw.gguf.validation import validate_header
from ollama_tw.llama.vocabulary_file import FileVocabulary
from tests.convert.engine import converted
from tests.convert.pieces import sentencepiece_model
from tests.convert.sets import DECODER, byte_level_tokenizer, decoder_weights, write_set

TEXTS = [
    "The sky is blue because of Rayleigh scattering.",
    "  leading,  double  spaces and trailing   ",
    "Übergrößenträger, naïve façade: ÀÉÎÕÜ",
    "don't I'll WE'RE they've 'tis",
    "3.14159 1234567890 $100,000 ½ ²",
    "東京都 서울특별시 مرحبا بالعالم Ελληνικά",
    "tab\tnewline\n\n\r\n zero\u200bwidth \u00a0 nbsp",
    "def f(x):\n    return x**2  # comment\n\n\n",
    "😀👩‍👩‍👧‍👦🇩🇪",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "",
    " ",
]


def convert(directory: Path, documents: Mapping[str, Any], **changes: Any) -> Path:
    """Convert a tiny Llama model with ``documents``."""
    config = {**DECODER, "num_hidden_layers": 1, "architectures": ["LlamaForCausalLM"], **changes}
    documents = {"config.json": config, **documents}
    files = write_set(directory, documents, decoder_weights(config))
    return converted(directory / "m.gguf", lambda write: convert_model(files, write))


def tokenizer_of(header: Header, *, pairs: bool) -> dict[str, Any]:
    """Return a tokenizer.json of a GGUF file's byte-level vocabulary."""
    tokens, types = header.array("tokenizer.ggml.tokens"), header.array("tokenizer.ggml.token_type")
    merges = header.array("tokenizer.ggml.merges")
    special = {number for number, kind in enumerate(types) if kind == 3}
    return {
        "added_tokens": [
            {"id": number, "content": tokens[number], "special": True} for number in sorted(special)
        ],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens) if number not in special},
            "merges": [merge.split(" ") for merge in merges] if pairs else merges,
        },
    }


@pytest.mark.parametrize("pairs", [False, True])
def test_vocabulary_of_a_real_model(smollm2_gguf: str, pairs: bool, tmp_path: Path) -> None:
    original = read_header(Path(smollm2_gguf))
    settings = {
        "bos_token": "<|im_start|>",
        "eos_token": {"content": "<|im_end|>"},
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
        "chat_template": [{"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}],
    }
    documents = {"tokenizer.json": tokenizer_of(original, pairs=pairs), "tokenizer_config.json": settings}
    path = convert(tmp_path, documents, vocab_size=49152)
    header = read_header(path)
    for key in ("tokens", "token_type", "merges"):
        assert header.array(f"tokenizer.ggml.{key}") == original.array(f"tokenizer.ggml.{key}")
    for key in (
        "model",
        "pre",
        "add_bos_token",
        *(f"{name}_token_id" for name in ("bos", "eos", "unknown", "padding")),
    ):
        assert header.metadata[f"tokenizer.ggml.{key}"] == original.metadata[f"tokenizer.ggml.{key}"]
    assert header.chat_template == "yes"
    ours, theirs = FileVocabulary(str(path)), FileVocabulary(smollm2_gguf)
    for text in TEXTS:
        assert list(ours.tokenize(text)) == list(theirs.tokenize(text)), text


def test_words_are_merged(tmp_path: Path) -> None:
    path = convert(tmp_path, {"tokenizer.json": byte_level_tokenizer(("Ġhello", "Ġhelp"))}, vocab_size=270)
    header = read_header(path)
    validate_header(header)
    tokens = header.array("tokenizer.ggml.tokens")
    assert tokens[256:] == [
        "Ġh", "Ġhe", "Ġhel", "Ġhell", "Ġhello", "Ġhelp", "<|end|>", "<|start|>",
        "[PAD264]", "[PAD265]", "[PAD266]", "[PAD267]", "[PAD268]", "[PAD269]",
    ]  # fmt: skip
    assert header.array("tokenizer.ggml.token_type")[262:] == [3, 3, 5, 5, 5, 5, 5, 5]
    assert header.metadata["tokenizer.ggml.pre"] == "gpt-2"
    vocabulary = FileVocabulary(str(path))
    assert [tokens[number] for number in vocabulary.tokenize(" hello help")] == ["Ġhello", "Ġhelp"]


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        (LLAMA3, "llama-bpe"),
        (LLAMA3.replace("{1,3}", ""), "qwen2"),
        (QWEN35, "qwen35"),
        (r"\w+|\W+", "default"),
    ],
)  # fmt: skip
def test_pre_tokenizer_is_recognised(expression: str, name: str, tmp_path: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    steps = [split, {"type": "ByteLevel", "use_regex": False}]
    tokenizer = byte_level_tokenizer() | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}
    header = read_header(convert(tmp_path, {"tokenizer.json": tokenizer}))
    assert header.metadata["tokenizer.ggml.pre"] == name
    FileVocabulary(str(header.path))


def template(first: str | None, last: str | None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    parts = [{"SpecialToken": {"id": first, "type_id": 0}}, *parts] if first else parts
    parts = [*parts, {"SpecialToken": {"id": last, "type_id": 0}}] if last else parts
    return {
        "type": "Sequence",
        "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": parts}],
    }


@pytest.mark.parametrize(
    ("processor", "settings", "adds"),
    [
        (None, {}, (False, False)),
        (template("<|start|>", None), {}, (True, False)),
        (template("<|start|>", "<|end|>"), {}, (True, True)),
        (template(None, "<|end|>"), {}, (False, True)),
        (template("<|start|>", None), {"add_bos_token": False}, (False, False)),
        (None, {"add_bos_token": True, "add_eos_token": True}, (True, True)),
    ],
)
def test_bos_and_eos_are_added(
    processor: object, settings: dict[str, Any], adds: tuple[bool, bool], tmp_path: Path
) -> None:
    documents = {
        "tokenizer.json": byte_level_tokenizer() | {"post_processor": processor},
        "tokenizer_config.json": {"bos_token": "<|start|>", "eos_token": "<|end|>", **settings},
    }
    path = convert(tmp_path, documents)
    keys = read_header(path).metadata
    assert (keys["tokenizer.ggml.add_bos_token"], keys["tokenizer.ggml.add_eos_token"]) == adds
    first, last = [257] if adds[0] else [], [256] if adds[1] else []
    assert list(FileVocabulary(str(path)).tokenize("hi")) == [*first, ord("h"), ord("i"), *last]


def test_unknown_bos_is_not_added(tmp_path: Path) -> None:
    documents = {
        "tokenizer.json": byte_level_tokenizer(),
        "tokenizer_config.json": {"add_bos_token": True, "bos_token": "<nowhere>"},
    }
    path = convert(tmp_path, documents)
    assert read_header(path).metadata["tokenizer.ggml.add_bos_token"] is False
    assert len(FileVocabulary(str(path)).tokenize("hi")) == 2


def test_several_end_tokens(tmp_path: Path) -> None:
    documents = {
        "tokenizer.json": byte_level_tokenizer(),
        "tokenizer_config.json": {"eos_token": "<|end|>"},
        "generation_config.json": {"eos_token_id": [256, 257, 255]},
        "chat_template.jinja": "{{ messages }}",
    }
    header = read_header(convert(tmp_path, documents, eos_token_id=256))
    ids = [header.metadata[f"tokenizer.ggml.{kind}_token_id"] for kind in ("eos", "eot", "eom")]
    assert ids == [256, 257, 255]
    assert header.chat_template == "{{ messages }}"


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["▁", "e", "h", "l", "o", "▁h", "el", "lo", "▁hel", "▁hello"]


def byte_fallback_tokenizer(**changes: Any) -> dict[str, Any]:
    """Return a tokenizer.json with byte fallback, like that of Llama 2."""
    tokens = ["<unk>", "<s>", "</s>", *BYTES, *PIECES]
    return {
        "added_tokens": [
            {"id": at, "content": token, "special": True} for at, token in enumerate(tokens[:3])
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": ["▁ h", "e l", "l o", "▁h el", "▁hel lo"],
        },
    } | changes


SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@pytest.mark.parametrize(
    "tokenizer",
    [
        {"tokenizer.json": byte_fallback_tokenizer()},
        {"tokenizer.json": byte_fallback_tokenizer(normalizer=None, pre_tokenizer={"type": "Metaspace"})},
        {"tokenizer.model": sentencepiece_model(PIECES)},
        {"tokenizer.model": sentencepiece_model(PIECES), "tokenizer.json": byte_fallback_tokenizer()},
    ],
)
def test_byte_fallback(tokenizer: dict[str, Any], tmp_path: Path) -> None:
    path = convert(tmp_path, {**tokenizer, "tokenizer_config.json": SPECIALS}, vocab_size=272)
    header = read_header(path)
    validate_header(header)
    assert header.metadata["tokenizer.ggml.model"] == "llama"
    tokens = header.array("tokenizer.ggml.tokens")
    assert tokens == ["<unk>", "<s>", "</s>", *BYTES, *PIECES, "[PAD269]", "[PAD270]", "[PAD271]"]
    assert header.array("tokenizer.ggml.token_type") == [2, 3, 3, *[6] * 256, *[1] * 10, 5, 5, 5]
    found = FileVocabulary(str(path)).tokenize("hello hel é")
    assert [tokens[number] for number in found] == ["<s>", "▁hello", "▁hel", "▁", "<0xC3>", "<0xA9>"]


def test_no_space_prefix(tmp_path: Path) -> None:
    for tokenizer in (
        {"tokenizer.json": byte_fallback_tokenizer(normalizer=None)},
        {"tokenizer.model": sentencepiece_model(PIECES, prefix=False)},
    ):
        path = convert(tmp_path, {**tokenizer, "tokenizer_config.json": SPECIALS}, vocab_size=272)
        assert read_header(path).metadata["tokenizer.ggml.add_space_prefix"] is False


def test_tokens_added_to_a_sentencepiece_model(tmp_path: Path) -> None:
    documents = {
        "tokenizer.model": sentencepiece_model(PIECES),
        "added_tokens.json": {"<|im_start|>": 269, "<tool>": 271},
        "tokenizer_config.json": SPECIALS
        | {"added_tokens_decoder": {"269": {"content": "<|im_start|>", "special": True}}},
    }
    header = read_header(convert(tmp_path, documents, vocab_size=272))
    assert header.array("tokenizer.ggml.tokens")[269:] == ["<|im_start|>", "[PAD270]", "<tool>"]
    assert header.array("tokenizer.ggml.token_type")[269:] == [3, 5, 4]


@pytest.mark.parametrize(
    ("documents", "status", "message"),
    [
        ({}, 500, "unknown tokenizer format"),
        ({"tokenizer.json": {"model": {"type": "Unigram", "vocab": []}}}, 500, "unknown tokenizer format"),
        ({"vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n"}, 500, "unknown tokenizer format"),
        ({"tokenizer.model": b"IQ== 0\nIg== 1\n"}, 500, "unknown tokenizer format"),
        ({"tokenizer.model": b""}, 500, "unknown tokenizer format"),
        ({"tokenizer.json": "{"}, 400, "tokenizer.json is not valid JSON"),
        ({"tokenizer.json": "[]"}, 400, "tokenizer.json is not a JSON object"),
        ({"tokenizer.json": {"model": {}}}, 400, "tokenizer.json has no vocabulary"),
        (
            {"tokenizer.json": {"model": {"vocab": {"a": 0, "b": 0}}}},
            400,
            "two tokens of the tokenizer have the same id",
        ),
        (
            {"tokenizer.json": {"model": {"vocab": {"a": 1 << 40}}}},
            400,
            "a token of the tokenizer has an id that is not from 0 to 2097151",
        ),
        (
            {"tokenizer.json": {"model": {"vocab": {"a": 260}}}},
            400,
            "the tokenizer has 261 tokens, more than the 260 of config.json",
        ),
        (
            {"tokenizer.json": {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1, "content": "a"}]}},
            400,
            "the tokenizer has the same token twice",
        ),
        (
            {"tokenizer.json": {"model": {"vocab": {"a": 0}, "merges": [["a"]]}}},
            400,
            "tokenizer.json has a merge that is not of two tokens",
        ),
    ],
)
def test_rejected_tokenizers(documents: dict[str, Any], status: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(OllamaError) as caught:
        convert(tmp_path, documents)
    assert (caught.value.status, caught.value.message) == (status, message)


@pytest.mark.slow
def test_json_of_too_many_values(tmp_path: Path) -> None:
    many = json.dumps({"model": {"vocab": {}}, "x": [0] * 7_000_000})
    with pytest.raises(OllamaError, match=r"tokenizer.json has more than 6291456 values"):
        convert(tmp_path, {"tokenizer.json": many})
