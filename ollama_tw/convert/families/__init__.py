"""Model families that can be converted.

To add one, write a function from a :class:`ModelSource` to a :class:`ConversionPlan` and add it to
FAMILIES under the class name that config.json has in ``architectures``.
"""

from collections.abc import Mapping

from ollama_tw.convert.families.bert import bert
from ollama_tw.convert.families.decoder import llama, qwen2, qwen3
from ollama_tw.convert.families.plan import ConversionPlan, Family, ModelSource
from ollama_tw.convert.files import JsonObject, sanitized
from ollama_tw.errors import OllamaError

FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": llama,
    "MistralForCausalLM": llama,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
    "BertModel": bert,
}


def family_of(config: JsonObject) -> Family:
    """Return the family named in config.json; raises OllamaError 500, as Ollama does, if it is unknown."""
    architectures = config.items("architectures")
    name = architectures[0] if architectures else None
    if not isinstance(name, str):
        raise OllamaError(500, "unknown architecture")
    family = FAMILIES.get(name)
    if family is None:
        raise OllamaError(500, f'unsupported architecture "{sanitized(name)}"')
    return family


__all__ = ["FAMILIES", "ConversionPlan", "Family", "ModelSource", "family_of"]
