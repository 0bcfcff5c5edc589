"""Architectures of llama.cpp that do not generate one token after another; does not import it.

Encoders are used for embeddings. The others break assumptions of the batcher, and llama.cpp aborts the
process on some of them.

Source: llama.cpp: src/llama-arch.cpp, llm_arch_is_diffusion; src/llama-model.cpp, llama_model_has_encoder.
"""

from ollama_tw.interfaces import LoadError

# Architectures without causal attention: they have embeddings of whole texts only.
ENCODERS = frozenset({
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3",
    "eurobert", "gemma-embedding", "t5encoder",
})  # fmt: skip

_DIFFUSION = "a diffusion model, which refines a whole text instead of continuing it"
_DRAFT = "a draft model, which runs only beside the model that it was trained for"

_UNSUPPORTED = {
    "dream": _DIFFUSION,
    "llada": _DIFFUSION,
    "llada-moe": _DIFFUSION,
    "rnd1": _DIFFUSION,
    "t5": "an encoder-decoder model",
    "dflash": _DRAFT,
    "eagle3": _DRAFT,
    "gemma4-assistant": _DRAFT,
    "wavtokenizer-dec": "a decoder of audio",
}


def refuse_unsupported(architecture: str) -> None:
    """Raise LoadError if models of the ``architecture`` cannot be served."""
    if kind := _UNSUPPORTED.get(architecture):
        raise LoadError(f'models of the architecture "{architecture}" cannot be run: it is {kind}')
