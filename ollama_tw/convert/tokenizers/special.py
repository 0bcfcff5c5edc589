"""Special tokens, their addition to texts, and the chat template.

Source: ollama: convert/tokenizer.go, parseTokenizer.
"""

from collections.abc import Iterator
from typing import Any

from ollama_tw.convert.files import JsonObject, SourceFiles
from ollama_tw.convert.tokenizers.vocabulary import TokenizerVocabulary
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import Encoded, boolean, string, uint32

_KEYS = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "cls": "cls",
    "mask": "mask",
}
# llama.cpp also ends generation at these.
_FURTHER_ENDS = ("eot", "eom")


def special_tokens(
    files: SourceFiles, vocabulary: TokenizerVocabulary, tokenizer: JsonObject | None
) -> dict[str, Encoded]:
    """Return the keys of the special tokens and of the chat template; raises OllamaError 400.

    A token given as text in the tokenizer's files takes precedence over an id in the model's files.
    """
    settings = files.document("tokenizer_config.json") or JsonObject("tokenizer_config.json", {})
    named = [settings, *_document(files, "special_tokens_map.json")]
    numbered = [*_document(files, "generation_config.json"), *_document(files, "config.json")]
    ids = {name: number for number, name in enumerate(vocabulary.names)}
    found: dict[str, int] = {}
    for kind in _KEYS:
        texts = [_text(document.values.get(f"{kind}_token")) for document in named]
        texts.append(vocabulary.default_special.get(kind))
        numbers = [
            number for document in numbered for number in _ids(document.values.get(f"{kind}_token_id"))
        ]
        candidates = [ids[text] for text in texts if text in ids]
        candidates += [number for number in numbers if number < len(vocabulary.names)]
        if candidates:
            found[kind] = candidates[0]
        if kind == "eos":
            further = list(dict.fromkeys(number for number in candidates if number != candidates[0]))
            found |= dict(zip(_FURTHER_ENDS, further, strict=False))
    if vocabulary.model == "bert":
        _set_cls_and_sep(found)
    keys = {f"tokenizer.ggml.{_KEYS.get(kind, kind)}_token_id": uint32(found[kind]) for kind in found}
    for kind, adds in _adds(settings, vocabulary, tokenizer, found).items():
        keys[f"tokenizer.ggml.add_{kind}_token"] = boolean(adds)
    if template := _chat_template(files, settings):
        keys["tokenizer.chat_template"] = string(template)
    return keys


def _document(files: SourceFiles, name: str) -> Iterator[JsonObject]:
    document = files.document(name)
    if document is not None:
        yield document


def _text(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _ids(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [
        number
        for number in values
        if isinstance(number, int) and not isinstance(number, bool) and number >= 0
    ]


def _set_cls_and_sep(found: dict[str, int]) -> None:
    """Set bos and eos to CLS and SEP; raises OllamaError 400 if absent, as llama.cpp requires them."""
    if "cls" not in found or "sep" not in found:
        raise OllamaError(400, "the tokenizer has no tokens [CLS] and [SEP]")
    found["bos"] = found["cls"]
    found.setdefault("eos", found["sep"])


def _adds(
    settings: JsonObject, vocabulary: TokenizerVocabulary, tokenizer: JsonObject | None, found: dict[str, int]
) -> dict[str, bool]:
    """Return whether bos and eos are added to a text.

    In order of precedence: the vocabulary's fixed values, tokenizer_config.json, the post-processor
    of tokenizer.json, the default of the tokenizer type. Tokens that were not found are not added.
    """
    processed = _template_adds(tokenizer, vocabulary, found)
    defaults = {"bos": vocabulary.model == "llama", "eos": False}
    adds = {}
    for kind in ("bos", "eos"):
        configured = settings.flag(f"add_{kind}_token")
        value = vocabulary.adds.get(
            kind, configured if configured is not None else processed.get(kind, defaults[kind])
        )
        adds[kind] = value and kind in found
    return adds


def _template_adds(
    tokenizer: JsonObject | None, vocabulary: TokenizerVocabulary, found: dict[str, int]
) -> dict[str, bool]:
    """Return what the post-processor of tokenizer.json adds to a single text; empty without one."""
    processor = tokenizer.section("post_processor") if tokenizer else None
    if processor is None:
        return {}
    for step in [processor.values, *processor.items("processors")]:
        match step:
            case {"type": "TemplateProcessing", "single": [first, *_, last]}:
                pass
            case {"type": "TemplateProcessing", "single": [first]}:
                last = first
            case _:
                continue
        ends = {"bos": _special(first), "eos": _special(last)}
        return {kind: kind in found and name == vocabulary.names[found[kind]] for kind, name in ends.items()}
    return {"bos": False, "eos": False}


def _special(part: Any) -> str | None:
    match part:
        case {"SpecialToken": {"id": str(name)}}:
            return name
    return None


def _chat_template(files: SourceFiles, settings: JsonObject) -> str:
    """Return the chat template: a separate file, a string, or the list entry named ``default``."""
    if (own := files.text("chat_template.jinja")) is not None:
        return own
    match settings.values.get("chat_template"):
        case str(template):
            return template
        case list(templates):
            for entry in templates:
                match entry:
                    case {"name": "default", "template": str(template)}:
                        return template
    return ""
