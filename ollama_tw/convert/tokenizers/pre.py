"""Recognition of the pre-tokenizer of a tokenizer.json.

llama.cpp identifies pre-tokenizers by name, Ollama recognises them by the SHA-256 of their
concatenated Split expressions; pre-tokenizers without Split are recognised by their steps.

Source: ollama: convert/tokenizer.go, parseTokenizer; llama.cpp: src/llama-vocab.cpp.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

_BY_DIGEST = {
    "d98f9631be1e9607a9848c26c1f9eac1aa9fc21ac6ba82a2fc0741af9780a48f": "llama-bpe",
    "1ff7f41064896984db5d1bb6ff64fa4bc29007d08c1b439e505b7392777a319e": "qwen2",
    "03df5c5863ad70781dcfdef491ead25140f895fe8010964be0daefe27be32b02": "deepseek-llm",
    "21cde974d587f0d54dc8d56b183cc1e6239600172035c68fbd6d4b9f8da0576e": "deepseek-coder",
}
_BY_EXPRESSION = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen35",
    # Mistral's tokenizers since NeMo.
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "tekken",
}


def pre_tokenizer_name(pre_tokenizer: Any) -> str:
    """Return llama.cpp's name for the value of ``pre_tokenizer``, ``default`` if it is not recognised."""
    steps = list(_steps(pre_tokenizer))
    expressions = [expression for step in steps if (expression := _expression(step))]
    if expressions:
        joined = "".join(expressions)
        digest = hashlib.sha256(joined.encode()).hexdigest()
        return _BY_DIGEST.get(digest) or _BY_EXPRESSION.get(joined, "default")
    kinds = [step.get("type") for step in steps]
    if kinds and kinds[-1] == "ByteLevel" and steps[-1].get("use_regex", True):
        if kinds == ["ByteLevel"]:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") is True:
            return "smollm"
    return "default"


def _steps(pre_tokenizer: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(pre_tokenizer, dict):
        return
    if pre_tokenizer.get("type") != "Sequence":
        yield pre_tokenizer
        return
    inner = pre_tokenizer.get("pretokenizers")
    yield from (step for step in inner if isinstance(step, dict)) if isinstance(inner, list) else ()


def _expression(step: dict[str, Any]) -> str:
    match step:
        case {"type": "Split", "pattern": {"Regex": str(expression)}}:
            return expression
    return ""
