"""Memory-related properties of a model, from the header of its GGUF file.

Source: ggml: docs/gguf.md for the keys; llama.cpp: src/llama-model.cpp for the patterns of
sliding-window layers that files leave out.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ollama_tw.engine.memory import LayerShape, ModelShape
from ollama_tw.gguf.reader import ArrayRef, GGUFError, Header, read_header

_BLOCK = re.compile(r"blk\.(\d+)\.")

# Of so many layers the last one sees the whole context, if the file has no pattern.
_WINDOW_PERIODS = {
    "cohere2": 4, "exaone4": 4, "exaone-moe": 4, "gemma-embedding": 6, "gemma2": 2, "gemma3": 6,
    "gemma3n": 5, "gpt-oss": 2, "llama4": 4, "olmo2": 4, "plamo3": 8,
}  # fmt: skip

_FLOAT = 4


def model_shape(header: Header, others: Sequence[str] = (), draft: Path | None = None) -> ModelShape:
    """Return the shape of the model of ``header``.

    ``others`` are paths of projectors and adapters; ``draft`` is that of the draft model, which counts if it
    can be read. Reads the file again if a value is an array: raises OSError, GGUFError. Blocking.
    """
    count = header.get_int("block_count")
    weights = [0] * count
    embeddings = output = rest = 0
    for tensor in header.tensors:
        block = _BLOCK.match(tensor.name)
        if block and int(block[1]) < count:
            weights[int(block[1])] += tensor.size
        elif tensor.name == "output.weight":
            output = tensor.size
        elif tensor.name == "token_embd.weight":
            embeddings = tensor.size
        else:
            rest += tensor.size
    heads = _per_layer(header, "attention.head_count", count)
    # Missing: as many as query heads. A 0 in an array: a layer without attention.
    kv_heads = _per_layer(header, "attention.head_count_kv", count) or heads
    head_count = max(heads, default=0)
    embedding = header.get_int("embedding_length")
    usual = embedding // head_count if head_count else 0
    key = header.get_int("attention.key_length") or usual
    value = header.get_int("attention.value_length") or usual
    compressed = header.get_int("attention.key_length_mla") > 0
    windowed = _windowed(header, count)
    state = _state(header)
    full = header.get_int("full_attention_interval")
    layers = []
    for index in range(count):
        recurrent = bool(state) and (
            not kv_heads or not kv_heads[index] or (full > 0 and (index + 1) % full != 0)
        )
        attends = kv_heads[index] if kv_heads and not recurrent else 0
        layers.append(
            LayerShape(
                weights=weights[index],
                key_width=key * attends,
                value_width=0 if compressed else value * attends,
                windowed=windowed[index],
                state=state if recurrent else 0,
            )
        )
    vocabulary = next((t.shape[1] for t in header.tensors if t.name == "token_embd.weight"), 0)
    return ModelShape(
        layers=tuple(layers),
        input_weights=embeddings + rest,
        output_weights=output or embeddings,
        tied=not output,
        embedding_length=embedding,
        feed_forward_length=max(_per_layer(header, "feed_forward_length", count), default=0),
        head_count=head_count,
        vocabulary=vocabulary,
        trained_context=header.get_int("context_length"),
        window=header.get_int("attention.sliding_window"),
        key_length=key,
        value_length=value,
        generates=not header.embeds,
        extra=sum(Path(path).stat().st_size for path in others),
        draft=_draft_shape(draft) if draft else None,
    )


def _draft_shape(path: Path) -> ModelShape | None:
    """Return the shape of a draft model, None for a file that the engine cannot use either."""
    try:
        return model_shape(read_header(path))
    except (OSError, GGUFError):
        return None


def _per_layer(header: Header, key: str, count: int) -> list[int]:
    """Return the number at ``key`` for each layer; the file has one for all or an array."""
    value = header.get(key)
    if isinstance(value, ArrayRef):
        items = [int(item) for item in header.array(f"{header.architecture}.{key}")]
        return (items + [0] * count)[:count]
    if isinstance(value, int):
        return [value] * count
    return []


def _windowed(header: Header, count: int) -> list[bool]:
    if not header.get_int("attention.sliding_window"):
        return [False] * count
    key = "attention.sliding_window_pattern"
    value = header.get(key)
    if isinstance(value, ArrayRef):
        items = [bool(item) for item in header.array(f"{header.architecture}.{key}")]
        return (items + [False] * count)[:count]
    period = header.get_int(key) or _WINDOW_PERIODS.get(header.architecture, 0)
    return [period > 0 and index % period < period - 1 for index in range(count)]


def _state(header: Header) -> int:
    """Return the bytes of a recurrent layer's state for a sequence, 0 for models without such layers."""
    if cache := header.get_int("shortconv.l_cache"):
        return _FLOAT * header.get_int("embedding_length") * (cache - 1)
    inner, size = header.get_int("ssm.inner_size"), header.get_int("ssm.state_size")
    columns = max(header.get_int("ssm.conv_kernel") - 1, 0)
    groups = header.get_int("ssm.group_count")
    return _FLOAT * (columns * (inner + 2 * groups * size) + inner * size)
