"""The families of models that can be converted.

To add one: write a function from a :class:`Source` to a :class:`Blueprint` and enter it here under
the class name that config.json has in ``architectures``.
"""

from collections.abc import Mapping

from ollama_tw.convert.families.bert import bert
from ollama_tw.convert.families.blueprint import Blueprint, Family, Source
from ollama_tw.convert.families.decoder import llama, qwen2, qwen3
from ollama_tw.convert.files import Document, shown
from ollama_tw.errors import OllamaError

FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": llama,
    "MistralForCausalLM": llama,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
    "BertModel": bert,
}


def family_of(config: Document) -> Family:
    """The family that config.json names; OllamaError 500, as Ollama has it, for one that is not known."""
    architectures = config.items("architectures")
    name = architectures[0] if architectures else None
    if not isinstance(name, str):
        raise OllamaError(500, "unknown architecture")
    family = FAMILIES.get(name)
    if family is None:
        raise OllamaError(500, f'unsupported architecture "{shown(name)}"')
    return family


__all__ = ["FAMILIES", "Blueprint", "Family", "Source", "family_of"]
